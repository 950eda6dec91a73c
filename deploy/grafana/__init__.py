"""Dashboards for Grafana: what to look at, written as tables here, drawn into the JSON files that Grafana reads.

Only developers run this (`make dashboards`). What it draws is committed, so nobody who runs Holdfast needs the library.
"""
