"""All methods, each with one line here: `teacher.method` is one of TEACHERS, `student.method` of
STUDENTS."""

from configs.cli import checked, settings_of
from configs.errors import UserError
from methods.interface import Method, TeacherMethod
from methods.students.diagonal_gaussian import DiagonalGaussian
from methods.students.dirichlet import DirichletStudent
from methods.students.dlf import DLF
from methods.students.drop import Drop
from methods.students.edfm import EDFM
from methods.students.end import EnD
from methods.students.endd import EnDD
from methods.students.endd_proxy import EnDDProxy
from methods.students.gauss import Gauss
from methods.students.hydra import Hydra
from methods.students.hydra_plus import HydraPlus
from methods.students.labels import Labels
from methods.students.logit_gaussian import GaussianStudent
from methods.teachers import ddu, deterministic, ensemble, laplace, last_layer_dropout, mc_dropout, variance_propagation

TEACHERS: dict[str, TeacherMethod] = {
    "deterministic": deterministic.METHOD,
    "mc_dropout": mc_dropout.METHOD,
    "stratified_dropout": mc_dropout.STRATIFIED,
    "last_layer_dropout": last_layer_dropout.METHOD,
    "variance_propagation": variance_propagation.METHOD,
    "suq": variance_propagation.SUQ,
    "cvp": variance_propagation.CVP,
    "ensemble": ensemble.METHOD,
    "ddu": ddu.METHOD,
    "laplace": laplace.METHOD,
}

STUDENTS: dict[str, type[Method]] = {
    "dirichlet": DirichletStudent,
    "logit_gaussian": GaussianStudent,
    "labels": Labels,
    "end": EnD,
    "endd": EnDD,
    "endd_proxy": EnDDProxy,
    "hydra": Hydra,
    "hydra_plus": HydraPlus,
    "drop": Drop,
    "gauss": Gauss,
    "edfm": EDFM,
    "dlf": DLF,
    "diagonal_gaussian": DiagonalGaussian,
}


def options_help() -> str:
    """The possible `student.options` of each method, as a text."""
    lines = []
    for name, method in STUDENTS.items():
        options = ", ".join(
            f"{key} {field.get_default(call_default_factory=True)!r}" for key, field in settings_of(method)
        )
        lines.append(f"  {name:18s}{options or 'none'}")
    return "student.options of each student.method, with their defaults:\n" + "\n".join(lines)


def student_method(name: str, options: dict | None = None) -> Method:
    """The student method of that name with its options. Raises UserError for an unknown name or a wrong option."""
    if name not in STUDENTS:
        raise UserError(f"student.method: {name} is not one of {', '.join(STUDENTS)}")
    return checked(STUDENTS[name], options or {}, f"student.options of {name}")


def teacher_method(name: str) -> TeacherMethod:
    """The teacher method of that name. Raises UserError, which lists the known names, for an unknown one."""
    if name not in TEACHERS:
        raise UserError(f"teacher.method: {name} is not one of {', '.join(TEACHERS)}")
    return TEACHERS[name]
