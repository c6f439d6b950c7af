"""Several small runs of one shape, trained in one process as one model whose weights are stacked."""
