"""Plug-ins that outsiders add: rewards, data-set converters and model families.

A reward's or a converter's name is found in three ways: announced by an installed package (entry-point groups
`gpg_vl.rewards` and `gpg_vl.datasets`), as `path/to/file.py:name`, or as `package.module:name`. Families are
announced alone, in `gpg_vl.families`.
"""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_type_hints, overload

from gpg_vl.checks import misfit
from gpg_vl.errors import ConfigurationError, UnknownNameError, unknown
from gpg_vl.types import Sample

SESSION = "python"
"""The place of functions that no file holds."""
CONCURRENCY = 32
"""Calls of an `async` reward in flight where nothing else is asked for; judges serve about so many."""
RewardKind = Literal["correctness", "shaping"]
Draft = Sample | Callable[[], Sample]
"""What a converter yields: a sample, or a function that reads and checks one."""


@dataclass(frozen=True)
class Reward:
    """A registered reward function.

    `function(completion, sample, *, options) -> float | None`, or TRL's
    `function(completions, **columns) -> list[float | None]` if it has a parameter `completions`; either may
    be `async`.
    """

    name: str
    function: Callable[..., Any]
    kind: RewardKind = "correctness"
    deadline: float | None = None
    """Seconds one call may take: of an answer, or of a group for a batch function. An `async` function is
    cancelled then, another runs in a worker process; None waits for ever, in the trainer's own process."""
    timeout_score: float | None = 0.0
    """What an answer that exceeds the deadline by itself scores; None is no score, which drops the reward for
    its group: where the answer is not to blame."""
    bounds: tuple[float, float] | None = None
    """Least and greatest score, which the audit holds it to; None where options decide."""
    unreadable: Callable[[Sample], str] | None = None
    """Says why a gold answer cannot be read, or only in part, in a few words; "" where it can."""
    check: Callable[[Mapping[str, Any]], None] | None = None
    """Raises ConfigurationError for options, defaults included, that nothing can be scored with."""
    workers: int | None = None
    """Worker processes of its own; None shares those that deadlines need."""
    concurrency: int | None = None
    """Calls in flight at a time: of an `async` function, or in threads; None is one after the other, and
    for an `async` function a default."""
    relative: bool = False
    """Whether an answer's score depends on the others of its group, as a rank does; batch functions only."""
    images: bool = True
    """Whether it looks at the pixels of the sample's images; False saves sending them to another process,
    where the images then have a size only."""

    @property
    def is_batch(self) -> bool:
        """Whether the function takes all completions at once, as TRL's rewards do."""
        return "completions" in inspect.signature(self.function).parameters

    @property
    def is_async(self) -> bool:
        """Whether the function is to be awaited: `async def`, a partial of one, or an object called so."""
        functions = (self.function, type(self.function).__call__)
        return any(map(inspect.iscoroutinefunction, functions))

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The keyword arguments that a configuration may set."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def check_options(self, given: Mapping[str, Any]) -> None:
        """Raise ConfigurationError for an option that the function does not take, one missing, or a value
        of another type than the function's annotation; and what the reward's own `check` raises."""
        options, hints = self.options, _hints(self.function)
        for option, value in given.items():
            if option not in options:
                raise ConfigurationError(unknown(f"option of reward {self.name!r}", option, options))
            self._check_type(options[option], hints.get(option, Any), value)
        for option, parameter in options.items():
            if parameter.default is inspect.Parameter.empty and option not in given:
                raise ConfigurationError(f"reward {self.name!r} needs the option {option!r}")
        if self.check is not None:
            self.check({name: given.get(name, parameter.default) for name, parameter in options.items()})

    def _check_type(self, option: inspect.Parameter, hint: Any, value: Any) -> None:
        if value is None and option.default is None:  # `limit: float = None` says so too
            return
        if wanted := misfit(value, hint):
            raise ConfigurationError(
                f"option {option.name!r} of reward {self.name!r} must be {wanted}, got {value!r}; it is "
                f"declared as `{option}`"
            )


@dataclass(frozen=True)
class Converter:
    """A registered data-set converter: `function(source, *, options)` yields samples, or functions that make
    one: those run in threads, and what raises RowError is skipped and counted."""

    name: str
    function: Callable[..., Iterator[Draft]]
    version: str = "1"
    endless: bool = False
    """Whether it never stops by itself, as generators of synthetic data do."""


Plugin = TypeVar("Plugin")


class Registry(Generic[Plugin]):
    """Plug-ins of one kind by name; nothing is imported before it is asked for."""

    def __init__(
        self, kind: str, group: str, plugin: type[Plugin], wrap: Callable[..., Plugin] | None = None
    ) -> None:
        """`wrap` makes a plug-in of a name and a bare function; without it only plug-ins are taken."""
        self.kind, self.group = kind, group
        self._type, self._wrap = plugin, wrap
        self._added: dict[str, Plugin] = {}

    def add(self, reference: str, function: Callable[..., Any]) -> None:
        """Let this process find a function, or what it is registered as, under a reference."""
        self._added[reference] = self._coerce(function, reference)

    def announced(self) -> dict[str, list[EntryPoint]]:
        """Entry points by name; more than one where several packages announce it."""
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            points = found.setdefault(point.name, [])
            if point.value not in [other.value for other in points]:
                points.append(point)
        return found

    def get(self, reference: str) -> Plugin:
        """The plug-in that `reference` names.

        Raises UnknownNameError with the nearest known name, ConfigurationError if the code behind a
        reference cannot be found or two packages announce the name.
        """
        if reference in self._added:
            return self._added[reference]
        place, _, attribute = reference.rpartition(":")
        if place == SESSION:
            raise ConfigurationError(
                f"{self.kind} {attribute!r} is a function of the Python session that it was given in: put it "
                f"into a file, and name it file.py:{attribute}"
            )
        if place:
            module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place, reference)
            return self._find(module, attribute, reference)
        if reference.endswith(".py"):
            names = list(self.in_file(reference))
            raise ConfigurationError(
                f"{reference!r} is a file: name a {self.kind} in it, as '{reference}:{names[0]}'; it has: "
                + ", ".join(names)
            )
        known = self.announced()
        if reference not in known:
            raise UnknownNameError(self._unknown(reference, known))
        first, *others = known[reference]
        if others:
            origins = " and ".join(origin(point) for point in (first, *others))
            raise ConfigurationError(
                f"several packages announce the {self.kind} {reference!r}: {origins}; "
                "uninstall all but one, or name it `module:name`"
            )
        return self._coerce(first.load(), reference)

    def in_file(self, path: str) -> dict[str, Plugin]:
        """The plug-ins of a file by name: those registered, and bare functions that are called as rewards.

        Raises ConfigurationError if there is no such file, or none in it.
        """
        module = _load_file(Path(path))
        found = self._registered(module)
        functions = [plugin.function for plugin in found.values() if isinstance(plugin, Reward | Converter)]
        for name, value in vars(module).items() if self._type is Reward else ():
            if inspect.isfunction(value) and value not in functions and _is_reward(name, value, module):
                found[name] = self._coerce(value, f"{path}:{name}")
        if not found:
            raise ConfigurationError(f"no {self.kind} in {path!r}: register one with `@{self.kind}`")
        return found

    def _registered(self, module: Any) -> dict[str, Plugin]:
        """What decorators have attached to a module's functions, by the name that they were given."""
        attached = [getattr(value, "plugin", None) for value in vars(module).values()]
        plugins = {str(plugin.name): plugin for plugin in attached if isinstance(plugin, Reward | Converter)}
        return {name: plugin for name, plugin in plugins.items() if isinstance(plugin, self._type)}

    def _unknown(self, name: str, known: Mapping[str, object]) -> str:
        message = unknown(self.kind, name, known)
        if not known:
            message += " Reinstall the package: pip install -e ."
        return message

    def _find(self, module: Any, attribute: str, reference: str) -> Plugin:
        """The plug-in in `module` registered as `attribute`, or the function called so."""
        plugins = self._registered(module)
        if attribute in plugins:
            return self._coerce(plugins[attribute], reference)
        if not hasattr(module, attribute):
            names = [
                *plugins,
                *(
                    name
                    for name, value in vars(module).items()
                    if getattr(value, "__module__", "") == module.__name__
                ),
            ]
            place = reference.rpartition(":")[0]
            raise UnknownNameError(unknown(f"{self.kind} in {place}", attribute, set(names)))
        return self._coerce(getattr(module, attribute), reference)

    def _coerce(self, loaded: Any, reference: str) -> Plugin:
        """Registered functions carry `.plugin`; a bare function becomes one under its reference."""
        plugin = getattr(loaded, "plugin", loaded)
        if isinstance(plugin, self._type):
            return plugin
        if isinstance(plugin, (Reward, Converter)):
            raise ConfigurationError(f"{reference!r} is a {type(plugin).__name__.lower()}, no {self.kind}")
        if self._wrap is None:
            raise ConfigurationError(f"{self.kind} {reference!r} is no {self._type.__name__}, but {loaded!r}")
        if not callable(plugin):
            raise ConfigurationError(f"{self.kind} {reference!r} is not a function")
        _check_signature(plugin, f"{self.kind} {reference!r}")
        return self._wrap(reference, plugin)


rewards: Registry[Reward] = Registry("reward", "gpg_vl.rewards", Reward, Reward)
converters: Registry[Converter] = Registry("data set", "gpg_vl.datasets", Converter, Converter)

Function = TypeVar("Function", bound=Callable[..., Any])


@overload
def reward(name: Function, /) -> Function: ...


@overload
def reward(
    name: str | None = None,
    *,
    kind: RewardKind = "correctness",
    deadline: float | None = None,
    timeout_score: float | None = 0.0,
    bounds: tuple[float, float] | None = None,
    unreadable: Callable[[Sample], str] | None = None,
    check: Callable[[Mapping[str, Any]], None] | None = None,
    workers: int | None = None,
    concurrency: int | None = None,
    relative: bool = False,
    images: bool = True,
) -> Callable[[Function], Function]: ...


def reward(name: Any = None, **settings: Any) -> Any:
    """Register a reward: `@reward`, `@reward()` or `@reward("name")`; without a name the function's own.

    `kind` says whether the gold answer must score highest. `bounds` are the least and the greatest score.
    With a `deadline` in seconds the function runs in worker processes: for what takes long or may hang. An
    answer that exceeds it by itself gets `timeout_score`: the least that the reward gives, or hanging would
    pay; None, no score, where others than the answer are late. Images are sent there, unless `images=False`
    says that the function does not read their pixels. `workers` are processes of its own. An `async` function
    runs in the trainer's process, up to `concurrency` calls at a time, and is cancelled at its deadline; with
    `concurrency` any other function runs in so many threads.
    `relative`: an answer's score depends on the others of its group, as a rank does.
    `unreadable(sample)` says in a few words why the sample's gold answer cannot be read, or only in part; ""
    if it can: what `prepare` and `preflight` count.
    `check(options)` raises ConfigurationError, before anything is loaded, for options that nothing can be
    scored with.
    """
    if callable(name):
        return reward()(name)
    return _attach(lambda function: Reward(name or function.__name__, function, **settings))


def converter(name: str, *, version: str = "1", endless: bool = False) -> Callable[[Function], Function]:
    """Register a converter; raise `version` whenever its output changes."""
    return _attach(lambda function: Converter(name, function, version, endless))


def _attach(make: Callable[[Function], Reward | Converter]) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        function.plugin = make(function)  # type: ignore[attr-defined]
        return function

    return decorate


def _check_signature(function: Callable[..., Any], what: str) -> None:
    try:
        inspect.signature(function)
    except (ValueError, TypeError) as error:  # of some built-in ones
        raise ConfigurationError(f"{what}: its parameters cannot be read; wrap it in a function") from error


def _is_reward(name: str, function: Callable[..., Any], module: Any) -> bool:
    """Whether an undecorated function of a file looks like a reward."""
    own = function.__module__ == module.__name__ and not name.startswith("_")
    parameters = list(inspect.signature(function).parameters)
    return own and ("completions" in parameters or parameters[:1] == ["completion"])


def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Its annotations; none where they name what cannot be found, as under `if TYPE_CHECKING`."""
    try:
        return get_type_hints(inspect.unwrap(getattr(function, "func", function)))
    except (NameError, AttributeError, TypeError):
        return {}


def origin(point: EntryPoint) -> str:
    """The package that announces an entry point, and the place in it."""
    package = point.dist.name if point.dist else "an unknown package"
    return f"{package} ({point.value})"


def _load_module(name: str, reference: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module exists; something that it imports does not
        raise ConfigurationError(f"{reference!r}: no module named {error.name!r} is installed") from error


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise ConfigurationError(f"no file {str(path)!r} to load a plug-in from")
    # The whole path, for a/b_c.py and a_b/c.py are two modules; without dots, which would name packages.
    name = f"gpg_vl_plugin {path.resolve()}".replace(".", "%")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
