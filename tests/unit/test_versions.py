"""What pyproject.toml admits and what requirements.lock installs speak of the same versions."""

import re
import tomllib
from itertools import product
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = [Requirement(line) for line in LOCK.splitlines() if not line.startswith("#")]
EXTRAS = PROJECT["optional-dependencies"]
PLATFORMS = [
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": machine}
    for machine in ("x86_64", "aarch64")
]
PLATFORMS += [{"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"}]
PLACES = [
    {
        **platform,
        "python_version": version,
        "python_full_version": f"{version}.0",
        "platform_python_implementation": "CPython",
        "extra": "",
    }
    for platform, version in product(PLATFORMS, ("3.11", "3.12", "3.13", "3.14"))
]
"""What the lock covers, as environments of requirement markers."""


def needs() -> list[Requirement]:
    lines = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
    return [need for line in lines if (need := Requirement(line)).name != PROJECT["name"]]


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(place: dict[str, str]) -> dict[str, str]:
    """Versions by name; a name that two lines pin at once fails."""
    found: dict[str, str] = {}
    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate(place):
            assert plain(pin.name) not in found, f"{pin.name} is pinned twice"
            found[plain(pin.name)] = str(pin.specifier).removeprefix("==")
    return found


@pytest.mark.parametrize(
    "place", PLACES, ids=lambda p: f"{p['sys_platform']}-{p['platform_machine']}-{p['python_version']}"
)
def test_the_lock_satisfies_every_bound(place):
    versions = pinned(place)
    for need in needs():
        if need.marker is None or need.marker.evaluate(place):
            assert plain(need.name) in versions, f"{need} is not in the lock; run `make lock`"
            assert need.specifier.contains(versions[plain(need.name)], prereleases=True), (
                f"{need}; run `make lock`"
            )


def test_the_lock_is_a_plain_list_of_pins():
    assert all(re.fullmatch(r"==[\w.+!]+", str(pin.specifier)) and pin.url is None for pin in PINS)
    assert "://" not in LOCK and "--" not in LOCK


def test_every_direct_need_has_a_lower_bound():
    for need in needs():
        assert any(bound.operator == ">=" for bound in need.specifier), need
