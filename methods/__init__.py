"""All methods, each with a file and one line here: `teacher.method` is one of TEACHERS, `student.method` one of
STUDENTS."""

from dataclasses import fields

from methods.interface import StudentMethod, TeacherMethod
from methods.students import (
    diagonal_gaussian,
    dirichlet,
    drop,
    edfm,
    end,
    endd,
    endd_proxy,
    gauss,
    hydra,
    hydra_plus,
    logit_gaussian,
)
from methods.teachers import ddu, deterministic, ensemble, head_dropout, laplace, mc_dropout, variance_propagation
from training.errors import UserError

TEACHERS: dict[str, TeacherMethod] = {
    "deterministic": deterministic.METHOD,
    "mc_dropout": mc_dropout.METHOD,
    "head_dropout": head_dropout.METHOD,
    "variance_propagation": variance_propagation.METHOD,
    "ensemble": ensemble.METHOD,
    "ddu": ddu.METHOD,
    "laplace": laplace.METHOD,
}

STUDENTS: dict[str, StudentMethod] = {
    "dirichlet": dirichlet.METHOD,
    "logit_gaussian": logit_gaussian.METHOD,
    "end": end.METHOD,
    "endd": endd.METHOD,
    "endd_proxy": endd_proxy.METHOD,
    "hydra": hydra.METHOD,
    "hydra_plus": hydra_plus.METHOD,
    "drop": drop.METHOD,
    "gauss": gauss.METHOD,
    "edfm": edfm.METHOD,
    "diagonal_gaussian": diagonal_gaussian.METHOD,
}


def options_help() -> str:
    """The possible `student.options` of each method, as a text."""
    lines = []
    for name, method in STUDENTS.items():
        own = ", ".join(f"{field.name} {field.default!r}" for field in fields(method.options))
        lines.append(f"  {name:18s}{own or 'none'}")
    return "student.options of each student.method, with their defaults:\n" + "\n".join(lines)


def student_method(name: str) -> StudentMethod:
    """The student method of that name. Raises UserError, which lists the known names, for an unknown one."""
    return _of(STUDENTS, name, "student.method")


def teacher_method(name: str) -> TeacherMethod:
    """The teacher method of that name. Raises UserError, which lists the known names, for an unknown one."""
    return _of(TEACHERS, name, "teacher.method")


def _of(registry: dict, name: str, key: str):
    if name not in registry:
        raise UserError(f"{key}: {name} is not one of {', '.join(registry)}")
    return registry[name]
