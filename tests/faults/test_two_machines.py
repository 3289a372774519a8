"""Two homes on one PostgreSQL: what each serves, who leads, and faults of leader and database."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time

import asyncpg
import pytest
from fault_ground import a_ground
from fault_processes import Emulator, GatewayProcess, PACE
from fault_usage import Books, Traffic, Witness, assert_adds_up
from fault_world import PATIENT, until

from registry.spec import from_data
from registry.state import EventKind
