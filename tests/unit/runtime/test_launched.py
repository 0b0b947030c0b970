"""A launcher's variables: complete ones are a place among processes, half of them are refused."""

import pytest

from gpg_vl.errors import ConfigurationError
from gpg_vl.runtime.launched import Place, launched, place

WHOLE = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def environment(monkeypatch):
    def be(values: dict[str, str]) -> None:
        for name in WHOLE:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    be({})
    return be


def test_the_place_of_a_launched_process(environment):
    environment(WHOLE)
    assert place() == launched() == Place(rank=3, local_rank=1, size=4, meeting="10.0.0.1:29500")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"},
        {"RANK": "", "WORLD_SIZE": ""},
        {"LOCAL_RANK": "-1"},
        {"OMPI_COMM_WORLD_SIZE": "1"},
    ],
    ids=["nothing", "a cluster's job of one", "only where to meet", "empty", "none", "mpirun of one"],
)
def test_a_process_of_its_own(environment, values):
    environment(values)
    assert place() is None


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"])
def test_processes_of_mpirun_are_not_so_many_runs(environment, monkeypatch, name):
    monkeypatch.setenv(name, "2")
    with pytest.raises(ConfigurationError, match=f"{name}='2': .* would each train alone"):
        place()
    environment(WHOLE)
    assert place() is not None


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "WORLD_SIZE"])
@pytest.mark.parametrize("value", ["0", "1", "2"])
def test_one_variable_left_over_is_refused(environment, name, value):
    environment({name: value})
    with pytest.raises(ConfigurationError, match=f"half of a launch's: {name}='{value}', but no ") as error:
        place()
    for other in WHOLE:
        assert other in str(error.value)
    assert launched() is None


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [None, ""])
def test_one_variable_missing_is_named(environment, name, value):
    environment({other: text for other, text in WHOLE.items() if other != name})
    if value is not None:
        environment(WHOLE | {name: value})
    with pytest.raises(ConfigurationError, match=f"but no {name}. Launchers set"):
        place()


@pytest.mark.parametrize(
    ("name", "value", "limits"),
    [
        ("RANK", "4", "0 to 3"),
        ("RANK", "-1", "0 to 3"),
        ("RANK", "first", "0 to 3"),
        ("LOCAL_RANK", "4", "0 to 3"),
        ("WORLD_SIZE", "0", "at least 1"),
        ("WORLD_SIZE", "4.0", "at least 1"),
        ("MASTER_PORT", "0", "1 to 65535"),
        ("MASTER_PORT", "65536", "1 to 65535"),
    ],
)
def test_numbers_that_do_not_fit(environment, name, value, limits):
    environment(WHOLE | {name: value})
    with pytest.raises(
        ConfigurationError, match=f"{name} must be a whole number, {limits} .*{name}='{value}'"
    ):
        place()
    assert launched() is None
