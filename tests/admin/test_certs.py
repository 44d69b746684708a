"""``phxqueue certs`` and ``phxqueue config``: files in, files and reports out."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from phxqueue.admin.certificates import facts_of, identity_for, leaves, make_missing, operator_tls
from phxqueue.admin.errors import AdminError
from phxqueue.config import Leaf, certificate_paths, load_cluster
from phxqueue.net.identity import IdentityError
from phxqueue.net.tls import TlsPaths, client_tls
from tests.admin.conftest import Invoke

CERTS = Path("etc/certs")
CONSUMERS = ["consumer-127.0.0.1-8001", "consumer-127.0.0.1-8002"]
ALL = ["admin", "ca", "client", *CONSUMERS, "store-1-0", "store-1-1", "store-1-2"]


def test_init_makes_what_every_process_looks_for(invoke: Invoke) -> None:
    result = invoke("certs", "init")
    assert result.exit_code == 0, result.output
    assert sorted(path.stem for path in CERTS.glob("*.pem")) == ALL
    assert sorted(path.stem for path in CERTS.glob("*.key")) == ALL
    assert {stat.S_IMODE(path.stat().st_mode) for path in CERTS.glob("*.key")} == {0o600}
    cluster = load_cluster("etc/globalconfig.conf")
    for leaf in leaves(cluster):
        paths = certificate_paths(CERTS, leaf.role, leaf.name)
        tls = client_tls(TlsPaths(paths.ca, paths.certificate, paths.key))
        assert tls.identity == identity_for(leaf.role, leaf.name)
    assert "etc/certs/ca.key secret" in result.output


def test_commands_show_the_operators_certificate_where_they_can_read_it(invoke: Invoke) -> None:
    invoke("certs", "init")
    cluster = load_cluster("etc/globalconfig.conf")
    assert cluster.tls is not None
    paths = operator_tls(cluster)
    assert paths is not None
    assert client_tls(TlsPaths(paths.ca, paths.certificate, paths.key)).identity == identity_for("admin", "default")
    paths.key.unlink()
    assert operator_tls(cluster) == cluster.tls


def test_init_never_overwrites_and_says_how_to_go_on(invoke: Invoke) -> None:
    assert invoke("certs", "init").exit_code == 0
    before = {path: path.read_bytes() for path in CERTS.iterdir()}
    result = invoke("certs", "init")
    assert result.exit_code == 1
    assert "exists already" in result.stderr
    assert "--missing" in result.stderr
    assert {path: path.read_bytes() for path in CERTS.iterdir()} == before


def test_init_missing_adds_only_what_is_missing(invoke: Invoke) -> None:
    assert invoke("certs", "init").exit_code == 0
    (CERTS / "store-1-1.pem").unlink()
    (CERTS / "store-1-1.key").unlink()
    before = {path: path.read_bytes() for path in CERTS.iterdir()}
    assert invoke("certs", "init", "--missing").output == "made etc/certs/store-1-1.pem\n"
    assert {path: path.read_bytes() for path in before} == before
    assert invoke("certs", "init", "--missing").output == "nothing is missing in etc/certs\n"


def test_leaves_without_their_authority_are_not_joined_by_others(tmp_path: Path) -> None:
    make_missing(tmp_path, [Leaf("client", "default", ())])
    (tmp_path / "ca.pem").unlink()
    (tmp_path / "ca.key").unlink()
    with pytest.raises(AdminError, match="put these back, or remove all"):
        make_missing(tmp_path, [Leaf("client", "anna", ())])


def test_issue_show_and_renew(invoke: Invoke) -> None:
    invoke("certs", "init")
    result = invoke("certs", "issue", "client", "anna", "--days", "5", "--output", "keys")
    assert "phxqueue://client/anna" in result.output
    facts = facts_of(Path("keys/client-anna.pem"))
    assert facts.identity == "phxqueue://client/anna"

    shown = invoke("certs", "show", "keys/client-anna.pem")
    assert shown.exit_code == 0
    assert "renew soon" in shown.output

    renewed = invoke("certs", "renew", "keys/client-anna.pem", "--days", "500")
    assert renewed.exit_code == 0, renewed.output
    assert "kill -HUP" in renewed.output
    assert facts_of(Path("keys/client-anna.pem")).not_after > facts.not_after
    assert "renew soon" not in invoke("certs", "show", "keys/client-anna.pem").output


def test_issue_for_a_node_with_its_hosts(invoke: Invoke) -> None:
    invoke("certs", "init")
    hosts = ("--host", "10.0.0.1", "--host", "store.example")
    result = invoke("certs", "issue", "store", "7/2", *hosts)
    assert result.exit_code == 0, result.output
    facts = facts_of(CERTS / "store-7-2.pem")
    assert (facts.identity, facts.hosts) == ("phxqueue://store/7/2", ("store.example", "10.0.0.1"))


def test_renew_without_names_renews_all_but_the_authority(invoke: Invoke) -> None:
    invoke("certs", "init")
    authority = (CERTS / "ca.pem").read_bytes()
    result = invoke("certs", "renew")
    assert result.output.count("renewed") == len(ALL) - 1
    assert (CERTS / "ca.pem").read_bytes() == authority


@pytest.mark.parametrize("name", ["1", "1/", "1/x", "/0"])
def test_a_node_needs_group_and_node(name: str) -> None:
    with pytest.raises(IdentityError):
        identity_for("store", name)


def test_tls_off(invoke: Invoke) -> None:
    path = Path("etc/globalconfig.conf")
    path.write_text(path.read_text().replace("{", '{"tls": "off",', 1))
    result = invoke("certs", "init")
    assert result.exit_code == 1
    assert "TLS is off in" in result.stderr


def test_config_check_of_a_sound_cluster(invoke: Invoke) -> None:
    result = invoke("config", "check")
    assert result.exit_code == 0, result.output
    assert result.output.endswith("files, no errors, no warnings\n")


def test_config_check_reports_every_problem_with_its_place(invoke: Invoke) -> None:
    store = Path("etc/storeconfig.conf")
    store.write_text(store.read_text().replace("5200", "5100").replace('"store_id": 1', '"store_id": "one"'))
    node = Path("etc/store.0.conf")
    node.write_text(node.read_text().replace("data_dir", "data_dri"))
    result = invoke("config", "check")
    assert result.exit_code == 1
    assert 'did you mean "data_dir"?' in result.output
    assert "etc/storeconfig.conf:" in result.output
    assert "etc/store.0.conf:" in result.output
    assert len([line for line in result.output.splitlines() if line.startswith("error: ")]) >= 3


@pytest.mark.parametrize("role", ["store", "lock", "scheduler", "consumer"])
def test_config_check_looks_at_the_files_of_all_nodes(invoke: Invoke, role: str) -> None:
    Path(f"etc/{role}.7.conf").write_text('{"no_such_field": 1}')
    result = invoke("config", "check")
    assert result.exit_code == 1
    assert f"etc/{role}.7.conf" in result.output


def test_config_check_of_what_is_not_there(invoke: Invoke) -> None:
    result = invoke("config", "check", "etc/nothing.conf")
    assert result.exit_code == 1
    assert "etc/nothing.conf does not exist" in result.stderr
