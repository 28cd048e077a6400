"""Hooks of modules, for the length of a context."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from torch.utils.hooks import RemovableHandle


@contextmanager
def hooked(hooks: Iterable[RemovableHandle]) -> Iterator[None]:
    """A context in which these hooks of modules are registered."""
    with ExitStack() as stack:
        for hook in hooks:
            stack.enter_context(hook)
        yield
