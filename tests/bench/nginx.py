"""nginx as a reverse proxy for the same upstreams: what the work costs in C. Unprivileged, everything below one directory."""

import shutil
from pathlib import Path

_CONFIGURATION = """
daemon off;
master_process off;
pid nginx.pid;
worker_rlimit_nofile 4096;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 100000000;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_buffering off;
    proxy_read_timeout 600s;
    upstream mock {{ server 127.0.0.1:{mock}; keepalive 256; keepalive_requests 100000000; }}
    upstream paced {{ server 127.0.0.1:{paced}; keepalive 256; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location /json/ {{ proxy_pass http://mock/; }}
        location /burst/ {{ proxy_pass http://mock/; }}
        location /paced/ {{ proxy_pass http://paced/; }}
    }}
}}
"""


def installed() -> str | None:
    """Its program, also where users do not have it on their PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")


def command(program: str, directory: Path, port: int, mock_port: int, paced_port: int) -> list[str]:
    """Writes the configuration and tells how to run it in the foreground."""
    directory.mkdir()
    file = directory / "nginx.conf"
    file.write_text(_CONFIGURATION.format(port=port, mock=mock_port, paced=paced_port))
    return [program, "-p", str(directory), "-c", str(file), "-e", "stderr"]
