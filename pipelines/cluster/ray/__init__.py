"""The `ray` backend: the nodes of a Ray cluster.

RayCluster asks a bridge (a child process, the only one that connects to Ray), the bridge asks an
agent actor on each node, and the agent uses the same `Machine` as `local`.
"""
