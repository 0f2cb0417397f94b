#!/usr/bin/env bash
# Tests the page in a real browser (`make test-page`). Needs Debian's chromium and chromium-driver, installs them where
# it may, and fetches axe-core with npm into a cache folder. Where no browser can be had it says why and leaves with 0.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${1:?the python to run}
SHOTS=${FINESCALE_SHOTS:-build/page-shots}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/finescale/page-tests
AXE=4.14.1
NEEDED=(chromium chromedriver)

missing() { for one in "${NEEDED[@]}"; do command -v "$one" >/dev/null || echo "$one"; done; }
skip() { echo "test-page: SKIPPED: $1"; exit 0; }

if [ -n "$(missing)" ]; then
  command -v apt-get >/dev/null || skip "no $(missing | paste -sd ' ') here, and no apt-get to install it with"
  [ "$(id -u)" = 0 ] || skip "no $(missing | paste -sd ' ') here; as root: apt-get install chromium chromium-driver"
  echo "Installing chromium and chromium-driver …"
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver; } >/dev/null \
    || skip "apt-get could not install chromium and chromium-driver"
  [ -z "$(missing)" ] || skip "apt-get installed chromium, yet $(missing | paste -sd ' ') is not found"
fi

"$PYTHON" -c 'import selenium, pypdfium2' 2>/dev/null \
  || "$PYTHON" -m pip install --quiet --disable-pip-version-check -c constraints.txt selenium pypdfium2 \
  || skip "the packages selenium and pypdfium2 are not installed and could not be"

axe=$CACHE/node_modules/axe-core/axe.min.js
if ! grep -qs "v$AXE" "$axe"; then
  command -v npm >/dev/null \
    && npm install --silent --no-save --ignore-scripts --prefix "$CACHE" "axe-core@$AXE" >/dev/null \
    || echo "test-page: axe-core could not be fetched with npm; the tests that need it are skipped"
fi
[ -f "$axe" ] && export FINESCALE_AXE=$axe

mkdir -p "$SHOTS"
export FINESCALE_SHOTS=$SHOTS
code=0
"$PYTHON" -m pytest -m slow -rs tests/slow/test_page_*.py || code=$?
echo "Screenshots: $SHOTS"
exit $code
