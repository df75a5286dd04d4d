# The policy is written where OpenSearch has none, because a change of one names the version that it replaces.
set -eu
files="${FILES:-/files}"
ask() {
  curl --silent --show-error ${CURL_CONFIG:+--config "$CURL_CONFIG"} --output /tmp/answer --write-out '%{http_code}' "$@"
}
put() {
  code=$(ask --request PUT "$OPENSEARCH/$1" --header 'content-type: application/json' --data @"$files/$2")
  case "$code" in
    2*) echo "$1: written" ;;
    *) echo "$1: $code $(cat /tmp/answer)" >&2; exit 1 ;;
  esac
}
absent() {
  case "$(ask "$OPENSEARCH/$1")" in
    404) return 0 ;;
    2*) echo "$1: there already"; return 1 ;;
    *) echo "$1: $(cat /tmp/answer)" >&2; exit 1 ;;
  esac
}
if absent _plugins/_ism/policies/attune-logs; then put _plugins/_ism/policies/attune-logs ism-policy.json; fi
put _index_template/attune-logs index-template.json
if absent _alias/attune-logs; then put attune-logs-000001 first-index.json; fi
