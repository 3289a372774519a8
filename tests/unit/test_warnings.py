"""What is right about a spec and still will not work as its owner may think."""

from fleets import unified, with_spec

from gateway.admin.warnings import warnings_of


def test_a_gate_that_is_never_looked_at_is_told_of():
    model = unified("m")
    for canary, told in (([100], True), ([25, 100], False)):
        spec = with_spec(model, rollout={"canary": canary, "gate": {}}).spec
        assert any("rollout.gate" in line for line in warnings_of(spec, ())) is told
