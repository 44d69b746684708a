"""The files of single processes, by themselves and with their cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phxqueue.config import ConfigError, load_consumer_node, load_store_node


def only_error(report: Any) -> tuple[str, str]:
    [problem] = report.errors
    return problem.field, str(problem)


class TestStore:
    def test_node_is_found_by_its_address(self, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        files.write()
        node = load_store_node("store.conf")
        assert (node.topic.topic_name, node.store.store_id, node.node.node_id) == ("test", 1, 1)
        assert (node.listen_address, node.listen_paxos_address) == ("127.0.0.1:5200", "127.0.0.1:5201")
        assert node.identity_name == "1/1"
        assert node.cluster_config == tmp_path / "globalconfig.conf"
        assert node.data_dir == tmp_path / "data" / "store.1", "relative to the working directory"
        assert node.tls is not None
        assert node.tls.certificate == tmp_path / "certs" / "store-1-1.pem"
        assert node.journal.sync == "always"
        assert node.warnings == ()

    def test_listening_elsewhere(self, files: Any) -> None:
        files.store["bind_ip"] = "::"
        node, _ = files.store_node()
        assert (node.listen_address, node.node.address) == ("[::]:5200", "127.0.0.1:5200")

    def test_cluster_settings_with_own_ones_before_them(self, files: Any) -> None:
        files.globalconfig["net"] = {"try_timeout_s": 3, "connect_timeout_s": 4}
        files.store["net"] = {"connect_timeout_s": "5"}
        node, _ = files.store_node()
        assert (node.net.try_timeout_s, node.net.connect_timeout_s, node.net.max_redirects) == (3.0, 5.0, 4)

    def test_named_topic(self, files: Any) -> None:
        files.store["topic"] = "test"
        assert files.store_node()[1].ok
        files.store["topic"] = "tset"
        field, said = only_error(files.store_node()[1])
        assert field == "topic"
        assert "a topic of" in said
        assert said.endswith(": test")

    def test_address_that_is_not_in_the_cluster(self, files: Any) -> None:
        files.store["port"] = 5201
        field, said = only_error(files.store_node()[1])
        assert field == "port"
        assert "127.0.0.1:5201, which is not in storeconfig.conf" in said
        assert "127.0.0.1:5100, 127.0.0.1:5200, 127.0.0.1:5300" in said

    @pytest.mark.parametrize(
        ("name", "value", "field", "said"),
        [
            ("paxos_port", 5202, "paxos_port", "5201, as in storeconfig.conf"),
            ("journal", {"sync": "interval"}, "journal.sync", "i_accept_loss: true"),
            ("journal", {"sync": "never"}, "journal.sync", "one of always, interval"),
            ("journal", {"page_bytes": 5000}, "journal.page_bytes", "a power of two"),
            ("journal", {"log_file_bytes": 16 << 20}, "journal.log_buffer_bytes", "a quarter of log_file_bytes"),
            ("journal", {"max_locks": 5000}, "journal.max_locks", "at least 8192"),
            ("replica", {"peer_reconnect_max_ms": 5}, "replica.peer_reconnect_max_ms", "at least 20"),
            ("replica", {"max_peer_frame": 4 << 20}, "replica.max_peer_frame", "at least 4259840"),
            ("limits", {"max_frame": 1 << 20}, "limits.max_frame", "at least 2162688"),
            ("limits", {"limit_bytes": 16 << 20}, "limits.limit_bytes", "at most 16711680"),
            ("limits", {"add_queue_bytes": 1 << 20}, "limits.add_queue_bytes", "at least 2097152"),
            ("net", {"backoff_first_s": 1}, "net.backoff_max_s", "at least 1"),
            ("log", {"level": "loud"}, "log.level", "debug, info, warn"),
            ("limit", {}, "limit", 'did you mean "limits"?'),
            ("cluster_config", "x.conf", "cluster_config", "tried "),
            ("data_dir", "", "data_dir", "a path"),
        ],
    )
    def test_error(self, files: Any, name: str, value: Any, field: str, said: str) -> None:
        files.store[name] = value
        node, report = files.store_node()
        assert node is None
        found = only_error(report)
        assert found[0] == field
        assert said in found[1]

    def test_loss_accepted(self, files: Any) -> None:
        files.store["journal"] = {"sync": "interval", "i_accept_loss": True}
        assert files.store_node()[0].journal.sync == "interval"

    def test_problems_of_the_cluster_come_along(self, files: Any) -> None:
        files.store["port"] = 1
        files.topicconfig["pubs"][0]["queue_info_ids"] = [9]
        files.write()
        with pytest.raises(ConfigError) as caught:
            load_store_node(files.directory / "store.conf")
        assert [problem.field for problem in caught.value.report.errors] == ["port", "pubs[0].queue_info_ids[0]"]

    def test_nothing_is_made(self, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        files.write()
        before = sorted(tmp_path.rglob("*"))
        load_store_node("store.conf")
        assert sorted(tmp_path.rglob("*")) == before


class TestTls:
    def test_off_like_the_cluster(self, files: Any) -> None:
        files.globalconfig["tls"] = "off"
        node, report = files.store_node()
        assert report.problems == ()
        assert node.tls is None

    def test_off_against_the_cluster(self, files: Any) -> None:
        files.store["tls"] = "off"
        node, report = files.store_node()
        assert node.tls is None
        assert "off, but on in globalconfig.conf" in str(report.warnings[0])

    def test_on_against_the_cluster(self, files: Any) -> None:
        files.globalconfig["tls"] = "off"
        files.store["tls"] = {"directory": "/x"}
        node, report = files.store_node()
        assert node.tls.certificate == Path("/x/store-1-1.pem")
        assert "on, but off in globalconfig.conf" in str(report.warnings[0])

    def test_off_only_on_loopback(self, files: Any) -> None:
        files.store.update(tls="off", bind_ip="0.0.0.0")
        field, said = only_error(files.store_node()[1])
        assert field == "tls"
        assert "0.0.0.0 is not a loopback address" in said

    def test_a_consumer_speaks_plainly_to_loopback_only(self, files: Any) -> None:
        files.consumer["tls"] = "off"
        assert "off, but on in globalconfig.conf" in str(files.consumer_node()[1].warnings[0])
        files.storeconfig["stores"][0]["addrs"][2]["ip"] = "10.0.0.3"
        field, said = only_error(files.consumer_node()[1])
        assert field == "tls"
        assert "10.0.0.3 is not a loopback address" in said

    def test_own_files(self, files: Any) -> None:
        files.store["tls"] = {"certificate": "/my.pem", "key": "/my.key"}
        node, _ = files.store_node()
        assert node.tls.ca == files.directory / "certs" / "ca.pem"
        assert (node.tls.certificate, node.tls.key) == (Path("/my.pem"), Path("/my.key"))


class TestConsumer:
    def test_consumer_is_found_by_its_address(self, files: Any) -> None:
        files.write()
        node = load_consumer_node(files.directory / "consumer.conf")
        assert node.consumer.address == "127.0.0.1:8001"
        assert node.identity_name == "127.0.0.1-8001"
        assert node.consumer_group_ids == (1, 3)
        assert dict(node.handlers) == {1: "a:B", 2: "a.b:C.d"}
        assert node.tls is not None
        assert node.tls.key.name == "consumer-127.0.0.1-8001.key"

    def test_its_name_is_in_its_certificate(self, files: Any) -> None:
        files.consumerconfig["consumers"][0]["name"] = "anna"
        node, _ = files.consumer_node()
        assert node.identity_name == "anna"
        assert node.tls.certificate.name == "consumer-anna.pem"

    @pytest.mark.parametrize(("own", "ignored", "groups"), [([], [], (1, 3)), ([3, 1], [1], (3,)), ([], [1, 3], ())])
    def test_its_groups(self, files: Any, own: list[int], ignored: list[int], groups: tuple[int, ...]) -> None:
        files.consumerconfig["consumers"][0]["consumer_group_ids"] = own
        files.topicconfig["topic"]["consumer_ignore_consumer_group_ids"] = ignored
        assert files.consumer_node()[0].consumer_group_ids == groups

    def test_handlers_may_come_from_elsewhere(self, files: Any) -> None:
        del files.consumer["handlers"]["2"]
        node, report = files.consumer_node()
        assert list(node.handlers) == [1]
        assert "no handler for handle_id 2" in str(report.warnings[0])

    @pytest.mark.parametrize(
        ("name", "value", "field", "said"),
        [
            ("port", 8009, "port", "not in consumerconfig.conf; allowed: 127.0.0.1:8001"),
            ("handlers", {"1": "a:B", "2": "a:B", "7": "a:B"}, "handlers.7", "handle_ids of topic test: 1, 2"),
            ("handlers", {"1": "a:B", "2": "a.B"}, "handlers.2", '"module:object"'),
            ("fetch_bytes", 128 << 20, "fetch_bytes", "at most"),
            ("prefetch_bytes", 64 << 10, "fetch_bytes", "at most 65536"),
            ("retry", {"backoff_min_ms": 10_000}, "retry.backoff_max_ms", "at least 10000"),
            ("nhandler", "0", "nhandler", "from 1"),
            ("data_dir", "x", "data_dir", "unknown field"),
        ],
    )
    def test_error(self, files: Any, name: str, value: Any, field: str, said: str) -> None:
        files.consumer[name] = value
        node, report = files.consumer_node()
        assert node is None
        errors = {problem.field: str(problem) for problem in report.errors}
        assert list(errors) == [field]
        assert said in errors[field]

    def test_handlers_cannot_be_changed(self, files: Any) -> None:
        node, _ = files.consumer_node()
        with pytest.raises(TypeError):
            node.handlers[1] = "c:D"


class TestAdmin:
    def test_none_unless_asked_for(self, files: Any) -> None:
        node, _ = files.store_node()
        assert (node.admin.ip, node.admin.port) == ("127.0.0.1", 0)

    def test_where_it_is(self, files: Any) -> None:
        files.store["admin"] = {"ip": "0.0.0.0", "port": 9100, "webhook_url": "https://pager/phxqueue"}
        node, report = files.store_node()
        assert report.ok
        assert (node.admin.ip, node.admin.port) == ("0.0.0.0", 9100)

    @pytest.mark.parametrize(
        ("admin", "field"),
        [
            ({"port": 5200}, "admin.port"),
            ({"ip": "0.0.0.0", "port": 5201}, "admin.port"),
            ({"webhook_url": "pager"}, "admin.webhook_url"),
            ({"webhook_url": "ftp://pager/"}, "admin.webhook_url"),
            ({"webhook_backoff_s": 5, "webhook_backoff_max_s": 1}, "admin.webhook_backoff_max_s"),
        ],
    )
    def test_what_makes_no_sense(self, files: Any, admin: dict[str, Any], field: str) -> None:
        files.store["admin"] = admin
        assert only_error(files.store_node()[1])[0] == field

    def test_plain_on_loopback_only(self, files: Any) -> None:
        files.edit("globalconfig", "tls", "off")
        files.store["admin"] = {"ip": "10.0.0.1", "port": 9100}
        assert only_error(files.store_node()[1])[0] == "admin.ip"
        files.store["admin"] = {"port": 9100}
        assert files.store_node()[1].ok
