"""Repairs of PaddleSeg, one small function for each defect."""
