# A page, a click on its first item, and why that item was there.
set -eu
work="${WORK:-/tmp}"
refuse() {
  echo "journey: $1" >&2
  [ ! -s "$work/body" ] || cat "$work/body" >&2
  exit 1
}
ask() {
  code=$(curl --silent --show-error --max-time 20 --retry 5 --retry-connrefused --dump-header "$work/head" \
    --output "$work/body" --write-out '%{http_code}' "$@") || refuse "no answer from $EDGE"
}
field() {
  sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$work/body" | head -n 1
}

# A platform that has just begun, or is busy, answers from favourites first: those have nothing to explain.
tries=0
while :; do
  ask "$EDGE/v1/personalize?user_id=helm-test&page_type=home&limit=3"
  [ "$code" = 200 ] || refuse "the page was answered $code"
  level=$(sed -n 's/.*"level":\([0-9]\).*/\1/p' "$work/body")
  [ "${level:-9}" -gt 2 ] || break
  tries=$((tries + 1))
  [ "$tries" -lt 30 ] || refuse "pages stay at level $level"
  sleep 1
done
grep -qi '^cache-status:' "$work/head" || refuse "the page has no Cache-Status"
grep -qi '^traceresponse:' "$work/head" || refuse "the page has no traceresponse"
request=$(field request_id)
item=$(sed -n 's/.*"items":\[{"item_id":"\([^"]*\)".*/\1/p' "$work/body")
[ -n "$request" ] && [ -n "$item" ] || refuse "the page has no request id or no item"
echo "page $request with $item first"

event="{\"event_id\":\"$request\",\"type\":\"click\",\"user_id\":\"helm-test\",\"item_id\":\"$item\",\"request_id\":\"$request\",\"position\":0}"
now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
event="${event%\}},\"occurred_at\":\"$now\"}"
ask "$EDGE/v1/feedback" --header 'content-type: application/json' --data "{\"events\":[$event]}"
[ "$code" = 202 ] || refuse "the click was answered $code"
grep -q '"accepted":1' "$work/body" || refuse "the click was not accepted"
echo "click accepted"

# The decision's record is on its way to the log.
tries=0
until ask "$EDGE/v1/explain?request_id=$request&item_id=$item" && [ "$code" != 404 ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 20 ] || break
  sleep 0.5
done
[ "$code" = 200 ] || refuse "the explanation was answered $code"
[ -n "$(field text)" ] || refuse "the explanation says nothing"
echo "explained: $(field text)"
