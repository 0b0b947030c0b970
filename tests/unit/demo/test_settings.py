"""The app's settings: limits, and where the password comes from."""

import pytest

from gpg_vl.demo.service.settings import DemoSettings
from gpg_vl.errors import ConfigurationError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": ""}, "--base is missing"),
        ({"auth_env": "A", "auth_file": "b"}, "not both"),
        ({"concurrency": 0}, "--concurrency must be at least 1, got 0"),
        ({"upload_megapixels": 0}, "--upload_megapixels must be above 0, got 0"),
        ({"port": 70_000}, "--port is 0 to 65535, got 70000"),
    ],
)
def test_mistakes(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        DemoSettings(**{"base": "model", **changes})


def test_upload_limits_in_bytes_and_pixels():
    settings = DemoSettings("model", upload_mib=0.5, upload_megapixels=1.5)
    assert (settings.upload_bytes, settings.upload_pixels) == (524_288, 1_500_000)


def test_password_from_environment_or_file(monkeypatch, tmp_path):
    assert DemoSettings("model").auth() is None
    monkeypatch.setenv("DEMO_PASSWORD", "ada:a:b\n")
    assert DemoSettings("model", auth_env="DEMO_PASSWORD").auth() == ("ada", "a:b")
    (tmp_path / "auth").write_text("bob:secret\nmore")
    assert DemoSettings("model", auth_file=str(tmp_path / "auth")).auth() == ("bob", "secret")


@pytest.mark.parametrize("text", ["", "secret", ":secret", "ada:"])
def test_what_holds_no_password_is_refused_and_not_repeated(monkeypatch, text):
    monkeypatch.setenv("DEMO_PASSWORD", text)
    with pytest.raises(ConfigurationError, match="DEMO_PASSWORD holds no `user:password`") as error:
        DemoSettings("model", auth_env="DEMO_PASSWORD").auth()
    assert "secret" not in str(error.value)


def test_missing_password_file(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        DemoSettings("model", auth_file=str(tmp_path / "none")).auth()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host_name": ("https://demo.org",)}, "--host_name is a name without scheme and port"),
        ({"host_name": ("demo.org:443",)}, "--host_name is a name"),
        ({"allow_origin": ("demo.org",)}, "--allow_origin is like https://example.org, got 'demo.org'"),
        ({"allow_origin": ("https://demo.org/page",)}, "--allow_origin is like"),
        ({"allow_origin": ("*",)}, "--allow_origin is like"),
        ({"trusted_proxy": ("nginx",)}, "--trusted_proxy is an IP address or network"),
        ({"root_path": "demo/"}, "--root_path is like /demo, got 'demo/'"),
    ],
)
def test_mistakes_about_the_network(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        DemoSettings("model", **changes)


def test_names_sites_and_proxies():
    DemoSettings(
        "model",
        host_name=("demo.org", "*.demo.org", "10.0.0.5", "[::1]", "fe80::1"),
        allow_origin=("https://demo.org", "http://[::1]:8000"),
        trusted_proxy=("10.0.0.0/8", "::1"),
        root_path="/a/b",
    )
