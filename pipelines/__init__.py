"""How a spec becomes running workers: topology, engines, scheduler, reconciler, cluster."""
