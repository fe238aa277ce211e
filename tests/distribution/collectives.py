"""The collective ops in the graph of a function."""


def collectives(function):
    definition = function.graph.as_graph_def()
    nodes = [*definition.node, *(node for each in definition.library.function for node in each.node_def)]
    return sum("Collective" in node.op for node in nodes)
