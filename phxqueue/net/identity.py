"""Who is at the other end: the name a certificate carries as a URI in its subject alternative names.

phxqueue://store/<store_id>/<node_id>      a node of a store
phxqueue://lock/<lock_id>/<node_id>        a node of a lock group
phxqueue://scheduler/<name>                a scheduler
phxqueue://consumer/<name>                 a consumer daemon
phxqueue://client/<name>                   a producer, or any other program
phxqueue://admin/<name>                    an operator
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from cryptography import x509

_SCHEME = "phxqueue://"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class IdentityError(ValueError):
    """A URI or a name that is no identity of this protocol."""


class Role(enum.Enum):
    """What kind of program a certificate was issued to."""

    STORE = "store"
    LOCK = "lock"
    SCHEDULER = "scheduler"
    CONSUMER = "consumer"
    CLIENT = "client"
    ADMIN = "admin"
    ANONYMOUS = "anonymous"  # plain TCP on loopback: nobody proved anything

    @property
    def has_nodes(self) -> bool:
        """Whether an identity of this role names a group and a node in it."""
        return self in (Role.STORE, Role.LOCK)


@dataclass(frozen=True, slots=True)
class Identity:
    """One principal. `name` is the group's id for roles with nodes, `node` the node's id in it."""

    role: Role
    name: str
    node: int | None = None

    @classmethod
    def store(cls, store_id: int, node_id: int) -> Identity:
        """The identity of one node of a store."""
        return cls(Role.STORE, str(store_id), node_id)

    @classmethod
    def parse(cls, uri: str) -> Identity:
        """Read a SAN URI.

        Raises:
            IdentityError: naming the URI and what is wrong with it.
        """
        if not uri.startswith(_SCHEME):
            raise IdentityError(f"{uri!r} is not a phxqueue identity: it must begin with {_SCHEME}")
        role_text, *rest = uri[len(_SCHEME) :].split("/")
        try:
            role = Role(role_text)
        except ValueError:
            role = Role.ANONYMOUS
        if role is Role.ANONYMOUS:
            raise IdentityError(f"{uri!r}: {role_text!r} is not a role; roles are {_role_names()}")
        node: int | None = None
        if role.has_nodes:
            if len(rest) != 2 or not (rest[1].isascii() and rest[1].isdigit() and len(rest[1]) <= 9):
                raise IdentityError(f"{uri!r}: write {_SCHEME}{role.value}/<id>/<node id>")
            node = int(rest.pop())
        if len(rest) != 1:
            raise IdentityError(f"{uri!r}: write {_SCHEME}{role.value}/<name>")
        return cls.make(role, rest[0], node)

    @classmethod
    def make(cls, role: Role, name: str, node: int | None = None) -> Identity:
        """Build a checked identity.

        Raises:
            IdentityError: when the name has characters that do not belong into one, or the node is
                missing (or given although the role has none).
        """
        if not _NAME.fullmatch(name):
            raise IdentityError(f"{name!r} is not a name: 1 to 64 of the characters A-Z a-z 0-9 . _ -")
        if role.has_nodes != (node is not None):
            raise IdentityError(f"a {role.value} identity {'needs' if role.has_nodes else 'has no'} node id")
        if node is not None and node < 0:
            raise IdentityError(f"node id {node} is negative")
        return cls(role, name, node)

    @property
    def uri(self) -> str:
        """The identity as it stands in a certificate."""
        tail = "" if self.node is None else f"/{self.node}"
        return f"{_SCHEME}{self.role.value}/{self.name}{tail}"

    def __str__(self) -> str:
        if self.role is Role.ANONYMOUS:
            return "anonymous"
        return f"{self.role.value} {self.name}" + ("" if self.node is None else f" node {self.node}")


def identity_of(certificate: x509.Certificate) -> Identity:
    """The identity a certificate carries. Raises IdentityError."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return _only_identity([])
    return _only_identity(names.get_values_for_type(x509.UniformResourceIdentifier))


def _only_identity(uris: list[str]) -> Identity:
    ours = [uri for uri in uris if uri.startswith("phxqueue:")]
    if not ours:
        raise IdentityError("the certificate names no phxqueue identity (a URI phxqueue://... as alternative name)")
    if len(ours) > 1:
        raise IdentityError(f"the certificate names more than one identity: {', '.join(ours)}")
    return Identity.parse(ours[0])


def _role_names() -> str:
    return ", ".join(role.value for role in Role if role is not Role.ANONYMOUS)


ANONYMOUS = Identity(Role.ANONYMOUS, "")
"""The peer of a plain connection."""
