import pytest

from wakestream.adapters.config import addresses
from wakestream.adapters.config.addresses import hub_url, hub_urls, listen_address, network, serves, worker_url


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://hub.example.com", "wss://hub.example.com/dsp"),
        ("http://127.0.0.1:8080/", "ws://127.0.0.1:8080/dsp"),
        ("https://example.com/api", "wss://example.com/api/dsp"),
        ("wss://hub.example.com/dsp", "wss://hub.example.com/dsp"),
        ("ws://[::1]:80/dsp/", "ws://[::1]:80/dsp"),
        ("HTTPS://Hub.Example.com", "wss://hub.example.com/dsp"),
        ("hub.example.com", "wss://hub.example.com/dsp"),
        ("hub.example.com:8765", "wss://hub.example.com:8765/dsp"),
        ("10.0.0.5:8765/base", "wss://10.0.0.5:8765/base/dsp"),
        ("localhost:8765", "ws://localhost:8765/dsp"),
        ("127.0.0.1:8765", "ws://127.0.0.1:8765/dsp"),
        ("[::1]:8765", "ws://[::1]:8765/dsp"),
    ],
)
def test_a_hub_is_found_under_the_path_of_the_wire(written: str, meant: str) -> None:
    assert hub_url(written) == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("gpu.example.com", "http://gpu.example.com:8383"),
        ("10.0.0.5:9000", "http://10.0.0.5:9000"),
        ("https://gpu.example.com/", "https://gpu.example.com:8383"),
        ("http://gpu.example.com:80/base/", "http://gpu.example.com:80/base"),
        ("[::1]", "http://[::1]:8383"),
    ],
)
def test_a_worker_gets_the_scheme_and_the_port_that_it_lacks(written: str, meant: str) -> None:
    assert worker_url(written) == meant


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        (":8765", "lacks scheme or host"),
        ("", "lacks scheme or host"),
        ("ftp://hub.example.com", "write https://"),
        ("https://", "lacks scheme or host"),
        ("https://host:notaport", "is not an address"),
        ("https://host:0", "port 0"),
        ("https://ho st", "blank"),
        ("https://host/?key=1", "contains ?"),
    ],
)
def test_an_invalid_hub_address_is_refused_with_advice(written: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice.replace("?", r"\?")):
        hub_url(written)


def test_several_hubs_are_a_list_in_which_each_address_is_right_and_there_once() -> None:
    assert hub_urls("a.example, ws://b:1/dsp,") == "wss://a.example/dsp,ws://b:1/dsp"
    with pytest.raises(ValueError, match=r"^has a wrong address 2, which has port 0;"):
        hub_urls("a,b:0,c")
    with pytest.raises(ValueError, match=r"^has wss://a/dsp twice; write the address of each hub once"):
        hub_urls("https://a,wss://a/dsp")


def test_a_program_serves_us_if_it_is_at_one_of_our_hubs_or_we_name_none() -> None:
    assert serves("ws://a/dsp,ws://b/dsp", "ws://c/dsp,ws://b/dsp")
    assert serves("ws://a/dsp", None)
    assert not serves("ws://a/dsp", "ws://b/dsp")
    assert not serves(None, "ws://b/dsp")


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="password") as refusal:
        worker_url("http://me:hunter22@gpu")
    assert "hunter22" not in str(refusal.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        (":8080", ("0.0.0.0", 8080)),  # noqa: S104 - what leaving the host out means
        ("[::1]:8080", ("::1", 8080)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_a_listen_address_is_a_host_and_a_port(written: str, meant: tuple[str, int]) -> None:
    assert listen_address(written) == meant


@pytest.mark.parametrize("written", ["8080", "host:", "host:65536", "host:-1", "host:x", "::1:80", "host:²"])
def test_an_invalid_listen_address_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(ValueError, match="write for example"):
        listen_address(written)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("10.0.0.2", "10.0.0.2/32"), ("172.18.0.1/16", "172.18.0.0/16"), (" fd00::1 ", "fd00::1/128")],
)
def test_a_network_is_one_address_or_many(written: str, meant: str) -> None:
    assert str(network(written)) == meant


@pytest.mark.parametrize("written", ["", "proxy.example", "10.0.0.2:80", "10.0.0.0/33"])
def test_an_invalid_network_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address; write one such as"):
        network(written)


@pytest.mark.parametrize(
    ("url", "listed", "among"),
    [
        ("http://gpu.example:8383", "gpu.example", True),
        ("https://GPU.example", "other, gpu.example", True),
        ("http://a.gpu.example:1", ".gpu.example", True),
        ("http://evilgpu.example:1", ".gpu.example", False),
        ("http://gpu.example.evil:1", "gpu.example", False),
        ("http://gpu.example:1", ".gpu.example", False),
        ("http://10.1.2.3:8383", "10.1.0.0/16", True),
        ("http://10.2.2.3:8383", "10.1.0.0/16", False),
        ("http://[fd00::1]:8383", "fd00::/8", True),
        ("http://[fd00::1]:8383", "[fd00::1]", True),
        ("http://gpu.example:8383", "10.1.0.0/16", False),
        ("http://gpu.example:8383", "", False),
    ],
)
def test_a_listed_host_matches(url: str, listed: str, among: bool) -> None:
    assert addresses.is_among(url, addresses.hosts(listed)) is among


@pytest.mark.parametrize("written", ["http://gpu.example", "gpu example/x", "*.example", "a..", "-a"])
def test_an_invalid_host_is_refused_with_examples(written: str) -> None:
    with pytest.raises(ValueError, match=r"is not a host; write for example gpu\.example"):
        addresses.hosts(written)
