import unittest

from graflow_sidecar._settings import Settings


class FromEnvironment(unittest.TestCase):
    def test_table(self):
        for name, env, want in [
            ("nothing", {}, {"host": "localhost", "port": 6379, "db": 0, "retries": 5}),
            (
                "empty is unset",
                {"REDIS_URL": "", "REDIS_HOST": "", "REDIS_DB": ""},
                {"host": "localhost", "db": 0},
            ),
            (
                "parts",
                {"REDIS_HOST": "h", "REDIS_PORT": "7", "REDIS_DB": "3"},
                {"host": "h", "port": 7, "db": 3},
            ),
            ("a service link", {"REDIS_PORT": "tcp://10.0.0.1:6380"}, {"port": 6380}),
            (
                "a url",
                {"REDIS_URL": "redis://h:7/3"},
                {"host": "h", "port": 7, "db": 3, "tls": False},
            ),
            (
                "a url wins",
                {"REDIS_URL": "redis://h", "REDIS_PORT": "9", "REDIS_DB": "9"},
                {"port": 6379, "db": 0},
            ),
            (
                "login in the url",
                {"REDIS_URL": "redis://u:p%40%3A@h"},
                {"username": "u", "password": "p@:"},
            ),
            ("password alone", {"REDIS_URL": "redis://:p@h"}, {"username": None, "password": "p"}),
            (
                "login beside it",
                {"REDIS_URL": "redis://h", "REDIS_PASSWORD": "p"},
                {"password": "p"},
            ),
            ("tls by scheme", {"REDIS_URL": "rediss://h"}, {"tls": True, "insecure": False}),
            (
                "tls by name",
                {"REDIS_TLS": "true", "REDIS_TLS_CA_FILE": "/ca"},
                {"tls": True, "ca_file": "/ca"},
            ),
            (
                "a socket",
                {"REDIS_URL": "unix:///run/r.sock?db=2"},
                {"path": "/run/r.sock", "db": 2},
            ),
            ("ipv6", {"REDIS_URL": "redis://[::1]:7"}, {"host": "::1", "port": 7}),
            (
                "ipv6 with a zone",
                {"REDIS_URL": "redis://[fe80::1%25eth0]:7"},
                {"host": "fe80::1%eth0", "port": 7},
            ),
            ("ipv6 host", {"REDIS_HOST": "::1"}, {"host": "::1"}),
            ("ipv6 host in brackets", {"REDIS_HOST": "[::1]"}, {"host": "::1"}),
            ("a socket as host", {"REDIS_HOST": "/run/r.sock", "REDIS_DB": "2"}, {"path": "/run/r.sock", "db": 2}),
            (
                "foreign options",
                {"REDIS_URL": "redis://h/1?dial_timeout=5s&pool_size=3"},
                {"db": 1},
            ),
            (
                "numbers",
                {"REDIS_SOCKET_TIMEOUT": "2.5", "REDIS_MAX_CONNECTIONS": "3"},
                {"socket_timeout": 2.5, "max_connections": 3},
            ),
        ]:
            with self.subTest(name):
                settings = Settings.from_env(env)
                self.assertEqual({key: getattr(settings, key) for key in want}, want)

    def test_what_is_wrong_is_named(self):
        for env, text in [
            ({"REDIS_URL": "embedded"}, "REDIS_URL must begin with"),
            ({"REDIS_URL": "http://u:secret@h"}, "REDIS_URL must begin with"),
            ({"REDIS_URL": "redis://h/x"}, "x is not a database number"),
            ({"REDIS_PORT": "x"}, "REDIS_PORT=x is not a port"),
            ({"REDIS_RETRIES": "many"}, "REDIS_RETRIES=many is not a number"),
        ]:
            with self.subTest(env):
                with self.assertRaises(ValueError) as caught:
                    Settings.from_env(env)
                self.assertIn(text, str(caught.exception))
                self.assertNotIn("secret", str(caught.exception))


if __name__ == "__main__":
    unittest.main()
