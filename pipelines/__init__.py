"""How a spec becomes running workers: topology, engines, runtimes, scheduler, reconciler, cluster."""
