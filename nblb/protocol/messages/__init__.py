"""The messages between processes, and the states of a task.

Requests are imperative (SubmitTask, RunTask), facts are past tense (TaskFinished, WorkerDied). A message on the wire
is itself the event of the state machine that receives it: there is no second vocabulary. docs/protocol.md shows the
messages in their order.

A *task* on the wire is a submission: one call, or many calls (`items`) of one function that travel and are journaled
together; `task` is the id that its client made. Facts and orders are about a slice of a submission: `items` items
from `first` on. A submission of one item is its own slice (first 0, items 1), and those fields are not sent. The id
of item i of a submission of many, as users see it, is f"{task}.{i}".

Each module has one direction of a conversation and the union of its messages; other packages import names from here.
"""

from __future__ import annotations

from nblb.protocol.framing import Codec
from nblb.protocol.messages.access import Administer as Administer
from nblb.protocol.messages.access import Enrol as Enrol
from nblb.protocol.messages.access import Enrolled as Enrolled
from nblb.protocol.messages.blobs import BlobMissing as BlobMissing
from nblb.protocol.messages.blobs import BlobWanted as BlobWanted
from nblb.protocol.messages.blobs import HoldBlob as HoldBlob
from nblb.protocol.messages.blobs import PutBlob as PutBlob
from nblb.protocol.messages.connection import CardUse as CardUse
from nblb.protocol.messages.connection import FilesSeen as FilesSeen
from nblb.protocol.messages.connection import Heartbeat as Heartbeat
from nblb.protocol.messages.connection import Hello as Hello
from nblb.protocol.messages.connection import Refused as Refused
from nblb.protocol.messages.connection import Welcome as Welcome
from nblb.protocol.messages.connection import WorkerUse as WorkerUse
from nblb.protocol.messages.from_client import AdaptWorkers as AdaptWorkers
from nblb.protocol.messages.from_client import Ask as Ask
from nblb.protocol.messages.from_client import CancelTask as CancelTask
from nblb.protocol.messages.from_client import CollectTask as CollectTask
from nblb.protocol.messages.from_client import DrainHub as DrainHub
from nblb.protocol.messages.from_client import FetchCall as FetchCall
from nblb.protocol.messages.from_client import FetchOutput as FetchOutput
from nblb.protocol.messages.from_client import FetchTask as FetchTask
from nblb.protocol.messages.from_client import ForgetJob as ForgetJob
from nblb.protocol.messages.from_client import FromClient as FromClient
from nblb.protocol.messages.from_client import OfferHubs as OfferHubs
from nblb.protocol.messages.from_client import OpenJob as OpenJob
from nblb.protocol.messages.from_client import Publish as Publish
from nblb.protocol.messages.from_client import RemoveHub as RemoveHub
from nblb.protocol.messages.from_client import RetryFailed as RetryFailed
from nblb.protocol.messages.from_client import ScaleHub as ScaleHub
from nblb.protocol.messages.from_client import SetPriority as SetPriority
from nblb.protocol.messages.from_client import StopAndKeep as StopAndKeep
from nblb.protocol.messages.from_client import StopCore as StopCore
from nblb.protocol.messages.from_client import SubmitTask as SubmitTask
from nblb.protocol.messages.from_client import TurnKnob as TurnKnob
from nblb.protocol.messages.from_hub import FromHub as FromHub
from nblb.protocol.messages.from_hub import Group as Group
from nblb.protocol.messages.from_hub import HubGone as HubGone
from nblb.protocol.messages.from_hub import HubHello as HubHello
from nblb.protocol.messages.from_hub import HubLeaves as HubLeaves
from nblb.protocol.messages.from_hub import ItemsFinished as ItemsFinished
from nblb.protocol.messages.from_hub import KnobOffered as KnobOffered
from nblb.protocol.messages.from_hub import OutputKept as OutputKept
from nblb.protocol.messages.from_hub import Running as Running
from nblb.protocol.messages.from_hub import TaskCheckpointed as TaskCheckpointed
from nblb.protocol.messages.from_hub import TaskEmitted as TaskEmitted
from nblb.protocol.messages.from_hub import TaskFinished as TaskFinished
from nblb.protocol.messages.from_hub import TaskPrinted as TaskPrinted
from nblb.protocol.messages.from_hub import TaskProgressed as TaskProgressed
from nblb.protocol.messages.from_hub import TaskStarted as TaskStarted
from nblb.protocol.messages.from_hub import TaskStopped as TaskStopped
from nblb.protocol.messages.from_hub import WaitBegan as WaitBegan
from nblb.protocol.messages.from_hub import WaitEnded as WaitEnded
from nblb.protocol.messages.from_hub import WorkerDied as WorkerDied
from nblb.protocol.messages.from_hub import WorkerStarted as WorkerStarted
from nblb.protocol.messages.from_hub import split_workers as split_workers
from nblb.protocol.messages.to_client import Answer as Answer
from nblb.protocol.messages.to_client import CallTold as CallTold
from nblb.protocol.messages.to_client import CancelAnswer as CancelAnswer
from nblb.protocol.messages.to_client import JobChanged as JobChanged
from nblb.protocol.messages.to_client import JobNamed as JobNamed
from nblb.protocol.messages.to_client import OutputTold as OutputTold
from nblb.protocol.messages.to_client import TaskAccepted as TaskAccepted
from nblb.protocol.messages.to_client import TaskChanged as TaskChanged
from nblb.protocol.messages.to_client import TaskEnded as TaskEnded
from nblb.protocol.messages.to_client import TaskRejected as TaskRejected
from nblb.protocol.messages.to_client import TaskReopened as TaskReopened
from nblb.protocol.messages.to_client import ToClient as ToClient
from nblb.protocol.messages.to_hub import EndCommitted as EndCommitted
from nblb.protocol.messages.to_hub import LendSlot as LendSlot
from nblb.protocol.messages.to_hub import ResumeTask as ResumeTask
from nblb.protocol.messages.to_hub import RunTask as RunTask
from nblb.protocol.messages.to_hub import StopHub as StopHub
from nblb.protocol.messages.to_hub import StopTask as StopTask
from nblb.protocol.messages.to_hub import ToHub as ToHub
from nblb.protocol.messages.vocabulary import ENDED as ENDED
from nblb.protocol.messages.vocabulary import MOST_CHECKPOINT_BYTES as MOST_CHECKPOINT_BYTES
from nblb.protocol.messages.vocabulary import TOO_MANY_FAILURES as TOO_MANY_FAILURES
from nblb.protocol.messages.vocabulary import Checkpoint as Checkpoint
from nblb.protocol.messages.vocabulary import Failure as Failure
from nblb.protocol.messages.vocabulary import Message as Message
from nblb.protocol.messages.vocabulary import TaskState as TaskState

client_to_core = Codec(FromClient)
core_to_client = Codec(ToClient)
hub_to_core = Codec(FromHub)
core_to_hub = Codec(ToHub)
