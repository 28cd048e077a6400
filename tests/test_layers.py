"""The layers of the house: a module imports from its own layer and from those below it, and no modules import each
other in a circle."""

import ast
from graphlib import TopologicalSorter

from conftest import ROOT

LAYERS = "configs training data models uncertainty methods plots scripts experiments speed".split()  # upwards
PATHS = [path for layer in LAYERS for path in ROOT.glob("*.py" if layer == "scripts" else f"{layer}/**/*.py")]
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in PATHS}


def imports_of(module: str) -> set[str]:
    """The modules of this project that a module imports; a package's face stands for what it hands on."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else node.module for name in inner}
    return (found & MODULES.keys()) - {module}


def layer_of(module: str) -> int:
    package = module.split(".")[0]
    return LAYERS.index(package if package in LAYERS else "scripts")


def test_no_module_imports_from_a_layer_above_its_own():
    imports = [(module, name) for module in MODULES for name in imports_of(module)]
    assert not [both for both in imports if layer_of(both[1]) > layer_of(both[0])]


def test_no_modules_import_each_other_in_a_circle():
    TopologicalSorter({module: imports_of(module) for module in MODULES}).prepare()
