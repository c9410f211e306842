"""Payloads: pickled bytes that only clients and workers make and load.

No process between the two loads them. Each module documents the layout of its payloads:

    functions   functions, kept by hubs under their content hash, with the source lines of their cells
    calls       arguments, results and constants; futures among the arguments
    many        the arguments of a map; columns: calls that differ in a few values only
    failures    exceptions that tasks raised
    nested_task a task as it is inside another task
    frames      stack frames of a failed call, with variables as text; frame_values: variables as values
    inventory   the things that would travel, by name, kind, size and hash
    explain     finds the part of a value that cannot be pickled
    pickling    the Pickler beneath: decides what travels by value, by name or out of band
    project     finds the user's own modules
    reach       finds the members of these modules that a function needs
    modules     rebuilds these modules where the function is loaded
    classes     parts of a class that cloudpickle leaves out
    kinds       objects that neither pickle nor cloudpickle can handle
"""

from nblb.payload.array_needs import numpy_needed
from nblb.payload.calls import (
    Calls,
    Constant,
    Given,
    Input,
    Inputs,
    Packed,
    as_it_is,
    dump_constant,
    joined_results,
    load_constant,
    pack_call,
    pack_results,
    pack_results_in_parts,
    resolve,
    unpack_calls,
    unpack_each_result,
    unpack_results,
)
from nblb.payload.columns import Call, Columns, take
from nblb.payload.explain import MAX_REASON, explain_unpicklable
from nblb.payload.failures import not_loaded, original_exception, pack_exception, to_exception
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
from nblb.payload.salvage import NotLoaded
from nblb.protocol.blob_names import blob_name, content_hash

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
    "NotLoaded",
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
    "not_loaded",
    "numpy_needed",
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
    "unpack_each_result",
    "unpack_results",
]
