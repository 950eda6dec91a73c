"""Holdfast for Kubernetes: plain manifests, and the one of them that is made from files that others read too."""
