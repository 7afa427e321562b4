"""Simulated users before real ones: locust asks an endpoint over HTTP, and an SLO file says what it must hold.

python -m load_tests --slo demo --url http://movies.default.localhost:8080 --out <a new folder>
"""
