"""Pickled bytes: made by the client, opened by the worker, made by the worker, opened by the client.

Nothing between the two opens them. Each module says what its payloads look like:

    functions   a function, kept by hubs under its content hash, with the source lines of its cell
    calls       arguments, results and constants; futures among the arguments
    many        the arguments of a map; columns: those that differ in a few values only
    failures    what a task raised
    nested_task what a task is inside another one
    frames      where it was then, and with which variables; frame_values: these as real values
    inventory   what would travel, by name, kind, size and hash
    explain     which part of something cannot be pickled
    pickling    the Pickler beneath: what travels by value, what out of band
    project     which modules are the user's own
    reach       which members of these a function needs
    modules     how they are made again where the function is loaded
    classes     what cloudpickle leaves out of a class
    kinds       objects for which neither pickle nor cloudpickle has a way
"""

from nblb.payload.calls import (
    Calls,
    Constant,
    Given,
    Input,
    Inputs,
    Packed,
    as_it_is,
    blob_name,
    content_hash,
    dump_constant,
    joined_results,
    load_constant,
    pack_call,
    pack_results,
    pack_results_in_parts,
    resolve,
    unpack_calls,
    unpack_results,
)
from nblb.payload.columns import Call, Columns, take
from nblb.payload.explain import MAX_REASON, explain_unpicklable
from nblb.payload.failures import original_exception, pack_exception, to_exception
from nblb.payload.frame_values import MAX_VALUES, load_value
from nblb.payload.frames import describe_call, is_secret
from nblb.payload.functions import cell_label, dump_function, fingerprint, load_function, load_with_modules
from nblb.payload.inventory import HUBS_OWN, Item, inventory, missing_modules
from nblb.payload.kinds import CACHED, MADE_ANEW, registry_of
from nblb.payload.many import MAX_ITEMS, pack_calls, pack_chunk, pack_columns, pack_map
from nblb.payload.modules import ModulePlacement, put_back
from nblb.payload.nested_task import NestedTask
from nblb.payload.pickling import Alike, Store, stores
from nblb.payload.project import goes_by_name, is_project_file, project_modules
from nblb.payload.reach import Reach

__all__ = [
    "CACHED",
    "HUBS_OWN",
    "MADE_ANEW",
    "MAX_ITEMS",
    "MAX_REASON",
    "MAX_VALUES",
    "Alike",
    "Call",
    "Calls",
    "Columns",
    "Constant",
    "Given",
    "Input",
    "Inputs",
    "Item",
    "ModulePlacement",
    "NestedTask",
    "Packed",
    "Reach",
    "Store",
    "as_it_is",
    "blob_name",
    "cell_label",
    "content_hash",
    "describe_call",
    "dump_constant",
    "dump_function",
    "explain_unpicklable",
    "fingerprint",
    "goes_by_name",
    "inventory",
    "is_project_file",
    "is_secret",
    "joined_results",
    "load_constant",
    "load_function",
    "load_value",
    "load_with_modules",
    "missing_modules",
    "original_exception",
    "pack_call",
    "pack_calls",
    "pack_chunk",
    "pack_columns",
    "pack_exception",
    "pack_map",
    "pack_results",
    "pack_results_in_parts",
    "project_modules",
    "put_back",
    "registry_of",
    "resolve",
    "stores",
    "take",
    "to_exception",
    "unpack_calls",
    "unpack_results",
]
