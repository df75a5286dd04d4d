{{/* A service's config.toml: what the chart knows, and over it what the values say. */}}

{{- define "attune-lib.config" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $service := .service -}}
{{- $config := dict -}}
{{- if eq .name "attune" -}}
{{- range $each := list "edge" "origin" "retrieval" "ranking" "bandit" "llm" "embedder" -}}
{{- $telemetry := include "attune-lib.telemetry" $root | fromYaml -}}
{{- $_ := unset $telemetry "log_key" -}}
{{- $_ := set $config $each (dict "process" (dict "telemetry" $telemetry)) -}}
{{- end -}}
{{- $_ := set $config.edge "pop" $values.region -}}
{{- $_ := set $config.edge.process "admin" (printf "0.0.0.0:%d" (int $service.ports.admin)) -}}
{{- $_ := set $config.edge.process "grpc" (dict "drain" (printf "%ds" (int $service.drain.seconds))) -}}
{{- $_ := set $config.origin.process "grpc" (dict "listen" (printf "0.0.0.0:%d" (int $service.ports.grpc))) -}}
{{- else -}}
{{- $grpc := dict "drain" (printf "%ds" (int $service.drain.seconds)) -}}
{{- with $service.ports.grpc -}}{{- $_ := set $grpc "listen" (printf "0.0.0.0:%d" (int .)) -}}{{- end -}}
{{- $telemetry := include "attune-lib.telemetry" $root | fromYaml -}}
{{- if eq .name "origin" -}}
{{- $_ := set $telemetry "decision_bus" "hub" -}}
{{- else -}}
{{- $_ := set $telemetry "decision_bus" (include "attune-lib.address" (dict "root" $root "name" "origin")) -}}
{{- end -}}
{{- if and (has "debugKey" .facts.reads) $values.debugKey.existingSecret -}}
{{- $_ := set $telemetry "debug_key" (dict "file" (printf "/etc/attune/secrets/debug-key/%s" $values.debugKey.key)) -}}
{{- end -}}
{{- $admin := printf "0.0.0.0:%d" (int $service.ports.admin) -}}
{{- $_ := set $config "process" (dict "admin" $admin "grpc" $grpc "telemetry" $telemetry) -}}
{{- $own := dict -}}
{{- range .facts.peers -}}{{- $_ := set $own . (include "attune-lib.address" (dict "root" $root "name" .)) -}}{{- end -}}
{{- if has "bundle" .facts.reads -}}{{- $_ := set $own "bundle" "/model" -}}{{- end -}}
{{- $brokers := "" -}}
{{- if $values.kafka.brokers -}}{{- $brokers = printf "kafka://%s" (join "," $values.kafka.brokers) -}}{{- end -}}
{{- $checkpoints := or (ne $values.redis.url "") (eq $brokers "") -}}
{{- if eq .name "edge" -}}
{{- $_ := set $config "listen" (printf "0.0.0.0:%d" (int $service.ports.http)) -}}
{{- $_ := set $config "pop" $values.region -}}
{{- $_ := set $own "subject_key" (printf "/etc/attune/secrets/subject-key/%s" $values.subjectKey.key) -}}
{{- else if eq .name "origin" -}}
{{- $_ := set $own "event_log" ($brokers | default "/var/lib/attune/origin/events") -}}
{{- $_ := set $own "decision_log" "/var/lib/attune/origin/decisions" -}}
{{- $_ := set $own "features" $values.redis.url -}}
{{- if $checkpoints -}}
{{- $every := dig "config" "checkpoint_every" "5m" $values.services.embedder -}}
{{- $_ := set $config "checkpoint_every" $every -}}
{{- end -}}
{{- else if eq .name "embedder" -}}
{{- $_ := set $own "event_log" $brokers -}}
{{- $_ := set $own "state" ($values.redis.url | default "/var/lib/attune/embedder") -}}
{{- if $checkpoints -}}{{- $_ := set $own "checkpoints" "/var/lib/attune/checkpoints" -}}{{- end -}}
{{- $_ := set $config "insight" (dict "folder" "/var/lib/attune/insight") -}}
{{- else if eq .name "retrieval" -}}
{{- $_ := set $config "index" (dict "snapshots" "/var/cache/attune") -}}
{{- else if eq .name "llm" -}}
{{- if $values.llmServer.enabled -}}
{{- $url := printf "http://%s-llm-server:%d/v1" (include "attune-lib.fullname" $root) (int $values.llmServer.port) -}}
{{- $_ := set $config "backend" "openai" -}}
{{- $_ := set $config "openai" (dict "base_url" $url "model" $values.llmServer.model) -}}
{{- $_ := set $config "prices" (dict $values.llmServer.model (dict "input" 0 "output" 0)) -}}
{{- end -}}
{{- if $service.apiKey.existingSecret -}}
{{- $key := dict "file" (printf "/etc/attune/secrets/api-key/%s" $service.apiKey.key) -}}
{{- $_ := set $config "openai" (merge (dict "api_key" $key) ($config.openai | default dict)) -}}
{{- end -}}
{{- end -}}
{{- if $own -}}{{- $_ := set $config "own" $own -}}{{- end -}}
{{- if .facts.engines -}}
{{- $engines := dict -}}
{{- if $brokers -}}{{- $_ := set $engines "kafka" (include "attune-lib.kafka" $root | fromYaml) -}}{{- end -}}
{{- if and $values.redis.url $values.redis.existingSecret -}}
{{- $file := printf "/etc/attune/secrets/redis/%s" $values.redis.key -}}
{{- $_ := set $engines "redis" (dict "password_file" $file) -}}
{{- end -}}
{{- if $engines -}}{{- $_ := set $config "engines" $engines -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config (deepCopy $service.config)) -}}
{{- end -}}

{{- define "attune-lib.telemetry" -}}
log_level: {{ .Values.telemetry.logLevel }}
logs: stderr
{{- with .Values.telemetry.otlp }}
otlp: {{ . | quote }}
{{- end }}
{{- if .Values.logKey.existingSecret }}
log_key: {file: {{ printf "/etc/attune/secrets/log-key/%s" .Values.logKey.key | quote }}}
{{- end }}
{{- end -}}

{{- define "attune-lib.kafka" -}}
{{- $kafka := .Values.kafka -}}
topic_prefix: {{ $kafka.topicPrefix | quote }}
partitions: {{ int $kafka.partitions }}
replication: {{ int $kafka.replication }}
{{- if $kafka.tls.enabled }}
tls: true
{{- if $kafka.tls.existingSecret }}
ca: /etc/attune/secrets/kafka-tls/ca.crt
{{- if $kafka.tls.clientCertificate }}
certificate: /etc/attune/secrets/kafka-tls/tls.crt
key: /etc/attune/secrets/kafka-tls/tls.key
{{- end }}
{{- end }}
{{- end }}
{{- if $kafka.sasl.username }}
mechanism: {{ $kafka.sasl.mechanism }}
username: {{ $kafka.sasl.username | quote }}
password_file: {{ printf "/etc/attune/secrets/kafka-sasl/%s" $kafka.sasl.key | quote }}
{{- end }}
{{- end -}}

{{/* TOML of a map: values first, then tables. JSON's strings, numbers, booleans and lists are TOML's too. {path, value} */}}
{{- define "attune-lib.toml" -}}
{{- $path := .path -}}
{{- range $key, $value := .value }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "attune-lib.key" $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .value }}
{{- if kindIs "map" $value }}
{{- $here := include "attune-lib.key" $key -}}
{{- if $path -}}{{- $here = printf "%s.%s" $path $here -}}{{- end }}

[{{ $here }}]
{{- include "attune-lib.toml" (dict "path" $here "value" $value) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "attune-lib.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . -}}{{ . }}{{- else -}}{{ . | quote }}{{- end -}}
{{- end -}}

{{- define "attune-lib.configmap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "attune-lib.meta" . | nindent 2 }}
data:
  config.toml: |
    {{- include "attune-lib.toml" (dict "path" "" "value" (include "attune-lib.config" . | fromYaml)) | trim | nindent 4 }}
{{- end -}}
