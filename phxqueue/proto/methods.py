"""Every call of the wire protocol: number, name, request and response type, in one table.

Numbers are part of the protocol and never reused. Stores answer 1 to 99, locks 100 to 199,
schedulers 200 to 299, every node 900 to 999; 1000 and above are spoken between Paxos members only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from phxqueue.proto import (
    backup_pb2,
    ledger_pb2,
    lock_pb2,
    members_pb2,
    paxos_pb2,
    scheduler_pb2,
    status_pb2,
    store_pb2,
)

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[RequestT, ResponseT]):
    """One call: its number on the wire, its name in logs and metrics, its types."""

    number: int
    name: str
    request: type[RequestT]
    response: type[ResponseT]


ADD = Method(1, "Add", store_pb2.AddRequest, store_pb2.AddResponse)
GET = Method(2, "Get", store_pb2.GetRequest, store_pb2.GetResponse)
CANCEL_DELAYED = Method(10, "CancelDelayed", store_pb2.CancelDelayedRequest, store_pb2.CancelDelayedResponse)
LIST_DELAYED = Method(11, "ListDelayed", store_pb2.ListDelayedRequest, store_pb2.ListDelayedResponse)
DECIDE_HALF = Method(30, "DecideHalf", store_pb2.DecideHalfRequest, store_pb2.DecideHalfResponse)
LIST_HALVES = Method(31, "ListHalves", store_pb2.ListHalvesRequest, store_pb2.ListHalvesResponse)
SHOW_HALF = Method(32, "ShowHalf", store_pb2.ShowHalfRequest, store_pb2.ShowHalfResponse)
POLL_CHECK_BACKS = Method(33, "PollCheckBacks", store_pb2.PollCheckBacksRequest, store_pb2.PollCheckBacksResponse)
GET_SETTINGS = Method(20, "GetSettings", store_pb2.GetSettingsRequest, store_pb2.GetSettingsResponse)
SET_SETTING = Method(21, "SetSetting", store_pb2.SetSettingRequest, store_pb2.SetSettingResponse)
REPLAY = Method(22, "Replay", store_pb2.ReplayRequest, store_pb2.ReplayResponse)
LIST_REPLAYS = Method(23, "ListReplays", store_pb2.ListReplaysRequest, store_pb2.ListReplaysResponse)
REPORT_PRODUCED = Method(35, "ReportProduced", ledger_pb2.ReportProducedRequest, ledger_pb2.ReportProducedResponse)
GET_LEDGER = Method(36, "GetLedger", ledger_pb2.GetLedgerRequest, ledger_pb2.GetLedgerResponse)
VERIFY_RANGE = Method(37, "VerifyRange", ledger_pb2.VerifyRangeRequest, ledger_pb2.VerifyRangeResponse)
CREATE_GROUP = Method(25, "CreateGroup", store_pb2.CreateGroupRequest, store_pb2.GroupChangeResponse)
DELETE_GROUP = Method(26, "DeleteGroup", store_pb2.DeleteGroupRequest, store_pb2.GroupChangeResponse)
LIST_GROUPS = Method(27, "ListGroups", store_pb2.ListGroupsRequest, store_pb2.ListGroupsResponse)
GET_LOCK_INFO = Method(100, "GetLockInfo", lock_pb2.GetLockInfoRequest, lock_pb2.GetLockInfoResponse)
ACQUIRE_LOCK = Method(101, "AcquireLock", lock_pb2.AcquireLockRequest, lock_pb2.AcquireLockResponse)
RENEW_LOCK = Method(102, "RenewLock", lock_pb2.RenewLockRequest, lock_pb2.RenewLockResponse)
RELEASE_LOCK = Method(103, "ReleaseLock", lock_pb2.ReleaseLockRequest, lock_pb2.ReleaseLockResponse)
GET_STRING = Method(104, "GetString", lock_pb2.GetStringRequest, lock_pb2.GetStringResponse)
SET_STRING = Method(105, "SetString", lock_pb2.SetStringRequest, lock_pb2.SetStringResponse)
DELETE_STRING = Method(106, "DeleteString", lock_pb2.DeleteStringRequest, lock_pb2.DeleteStringResponse)
WATCH = Method(107, "Watch", lock_pb2.WatchRequest, lock_pb2.WatchResponse)
LIST_KEYS = Method(108, "ListKeys", lock_pb2.ListKeysRequest, lock_pb2.ListKeysResponse)
REPORT = Method(200, "Report", scheduler_pb2.ReportRequest, scheduler_pb2.ReportResponse)
SHARES = Method(201, "Shares", scheduler_pb2.ShareRequest, scheduler_pb2.ShareResponse)
SCHEDULER_STATUS = Method(
    202, "SchedulerStatus", scheduler_pb2.SchedulerStatusRequest, scheduler_pb2.SchedulerStatusResponse
)
GET_SHARE = Method(109, "GetShare", lock_pb2.GetShareRequest, lock_pb2.GetShareResponse)
CHANGE_SHARE = Method(110, "ChangeShare", lock_pb2.ChangeShareRequest, lock_pb2.ChangeShareResponse)
EXPORT_KEYS = Method(111, "ExportKeys", lock_pb2.ExportKeysRequest, lock_pb2.ExportKeysResponse)
RENEW_LOCKS = Method(112, "RenewLocks", lock_pb2.RenewLocksRequest, lock_pb2.RenewLocksResponse)
CLEAR_ALARM = Method(40, "ClearAlarm", status_pb2.ClearAlarmRequest, status_pb2.ClearAlarmResponse)
NODE_STATUS = Method(900, "NodeStatus", status_pb2.NodeStatusRequest, status_pb2.NodeStatusResponse)
MEMBERS = Method(910, "Members", members_pb2.MembersRequest, members_pb2.MembersResponse)
CHANGE_MEMBER = Method(911, "ChangeMember", members_pb2.ChangeMemberRequest, members_pb2.ChangeMemberResponse)
TRANSFER_MASTER = Method(912, "TransferMaster", members_pb2.TransferMasterRequest, members_pb2.TransferMasterResponse)
HOLD_MASTER = Method(913, "HoldMaster", members_pb2.HoldMasterRequest, members_pb2.HoldMasterResponse)
BACKUP_OPEN = Method(950, "BackupOpen", backup_pb2.BackupOpenRequest, backup_pb2.BackupOpenResponse)
BACKUP_READ = Method(951, "BackupRead", paxos_pb2.CheckpointReadRequest, paxos_pb2.CheckpointReadResponse)
BACKUP_LOG = Method(952, "BackupLog", paxos_pb2.LogReadRequest, paxos_pb2.LogReadResponse)
PEER_HELLO = Method(1000, "PeerHello", paxos_pb2.PeerHelloRequest, paxos_pb2.PeerHelloResponse)
PEER_FRAME = Method(1001, "PeerFrame", paxos_pb2.PeerFrame, paxos_pb2.PeerFrame)  # one-way
CHECKPOINT_OPEN = Method(1010, "CheckpointOpen", paxos_pb2.CheckpointOpenRequest, paxos_pb2.CheckpointOpenResponse)
CHECKPOINT_READ = Method(1011, "CheckpointRead", paxos_pb2.CheckpointReadRequest, paxos_pb2.CheckpointReadResponse)
LOG_READ = Method(1012, "LogRead", paxos_pb2.LogReadRequest, paxos_pb2.LogReadResponse)
