#!/bin/sh
# /usr/local/bin/telefonistka: root's commands find what systemd tells the daemon, in any shell, cron and timer.
# A variable that is set already counts, also an empty one. Nobody else can read these places.
if [ "$(id -u)" -eq 0 ]; then
    : "${TELEFONISTKA_CONFIG=/etc/telefonistka/server.yaml}"
    : "${TELEFONISTKA_STATE_DIR=/var/lib/telefonistka}"
    : "${CREDENTIALS_DIRECTORY=/etc/telefonistka/credentials}"
    export TELEFONISTKA_CONFIG TELEFONISTKA_STATE_DIR CREDENTIALS_DIRECTORY
fi
exec /opt/telefonistka/bin/telefonistka "$@"
