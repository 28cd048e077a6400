"""The layers of the house: a module imports from its own layer and from those below it, and no modules import each
other in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

LAYERS = [
    "configs",
    "training",
    "data",
    "models",
    "uncertainty",
    "methods",
    "plots",
    "scripts",
    "experiments",
    "speed",
]  # upwards
ROOT = Path(__file__).parent.parent
FILES = {path.relative_to(ROOT) for layer in LAYERS for path in (ROOT / layer).glob("**/*.py")} | {
    path.relative_to(ROOT) for path in ROOT.glob("*.py")
}


def module_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imports_of(path: Path) -> set[str]:
    """The modules of this project that a file imports; a package's face stands for what it hands on."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return {name for name in found if name in MODULES} - {module_of(path)}


def layer_of(path: Path) -> int:
    return LAYERS.index(path.parts[0] if len(path.parts) > 1 else "scripts")


def test_no_module_imports_from_a_layer_above_its_own():
    upwards = [
        f"{path} imports {name}"
        for path in sorted(FILES)
        for name in imports_of(path)
        if layer_of(MODULES[name]) > layer_of(path)
    ]
    assert not upwards


def test_no_modules_import_each_other_in_a_circle():
    TopologicalSorter({module_of(path): imports_of(path) for path in FILES}).prepare()
