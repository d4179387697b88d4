#!/usr/bin/env bash
# secrets.sh NAME: what docker-compose.yml needs and git must not have: .env and deploy/secrets/.
# NAME is how the wall is reached, such as wall.example. What is there already stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# = 1 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
name=$1
dir=deploy/secrets
umask 077
mkdir -p "$dir"

random() { openssl rand -hex 24; }

# token NAME SCOPES: prints a new token, and appends its entry, which lets nobody in, to the file.
token() {
  local text hash
  text=tw_$(openssl rand -hex 32)
  hash=$(printf %s "$text" | sha256sum | cut -d' ' -f1)
  printf '[[token]]\nname = "%s"\nhash = "%s"\nscopes = [%s]\n\n' "$1" "$hash" "$2" \
    >>"$dir/tokens.toml"
  printf '%-8s %s\n' "$1" "$text"
}

[ -e .env ] || cat >.env <<END
MYSQL_PASSWORD=$(random)
REDIS_PASSWORD=$(random)
WALL_PORT=8443
END
[ -e "$dir/cluster.key" ] || openssl rand -hex 32 >"$dir/cluster.key"
# Signed by itself: browsers ask, agents want it as --ca. A real one, its key behind it, goes in its
# place.
[ -e "$dir/wall.pem" ] || {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 \
    -subj "/CN=$name" -addext "subjectAltName=DNS:$name,DNS:localhost,IP:127.0.0.1" \
    -addext basicConstraints=critical,CA:FALSE \
    -keyout "$dir/key.pem" -out "$dir/cert.pem" 2>/dev/null
  cat "$dir/cert.pem" "$dir/key.pem" >"$dir/wall.pem"
  rm "$dir/key.pem"
}
[ -e "$dir/tokens.toml" ] || {
  echo 'Tokens, shown this once; deploy/secrets/tokens.toml has their hashes:'
  token agents '"ingest"'
  token wall '"read"'
  token metrics '"admin"'
}
# The containers' users must read the files; the folder keeps others on this machine away.
chmod 644 "$dir"/*
