{{/* The pod of a service. */}}

{{- define "attune-lib.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .user | default 65532 | int }}
runAsGroup: {{ .user | default 65532 | int }}
fsGroup: {{ .user | default 65532 | int }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "attune-lib.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Secrets of a service as {volume: {secret, items}}: files only, never arguments or variables. */}}
{{- define "attune-lib.secrets" -}}
{{- $values := .root.Values -}}
{{- $secrets := dict -}}
{{- if has "subjectKey" .facts.reads -}}
{{- $_ := set $secrets "subject-key" (dict "secret" $values.subjectKey.existingSecret "keys" (list $values.subjectKey.key)) -}}
{{- end -}}
{{- if and (has "debugKey" .facts.reads) $values.debugKey.existingSecret -}}
{{- $_ := set $secrets "debug-key" (dict "secret" $values.debugKey.existingSecret "keys" (list $values.debugKey.key)) -}}
{{- end -}}
{{- if and $values.logKey.existingSecret (ne .name "attune") -}}
{{- $_ := set $secrets "log-key" (dict "secret" $values.logKey.existingSecret "keys" (list $values.logKey.key)) -}}
{{- end -}}
{{- if and (eq .name "llm") .service.apiKey.existingSecret -}}
{{- $_ := set $secrets "api-key" (dict "secret" .service.apiKey.existingSecret "keys" (list .service.apiKey.key)) -}}
{{- end -}}
{{- if .facts.engines -}}
{{- if and $values.kafka.brokers $values.kafka.tls.existingSecret -}}
{{- $keys := list "ca.crt" -}}
{{- if $values.kafka.tls.clientCertificate -}}{{- $keys = list "ca.crt" "tls.crt" "tls.key" -}}{{- end -}}
{{- $_ := set $secrets "kafka-tls" (dict "secret" $values.kafka.tls.existingSecret "keys" $keys) -}}
{{- end -}}
{{- if and $values.kafka.brokers $values.kafka.sasl.username -}}
{{- $_ := set $secrets "kafka-sasl" (dict "secret" $values.kafka.sasl.existingSecret "keys" (list $values.kafka.sasl.key)) -}}
{{- end -}}
{{- if and $values.redis.url $values.redis.existingSecret -}}
{{- $_ := set $secrets "redis" (dict "secret" $values.redis.existingSecret "keys" (list $values.redis.key)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $secrets -}}
{{- end -}}

{{/* Spread over zones and hosts: {selector, spread} */}}
{{- define "attune-lib.spread" -}}
- maxSkew: 1
  topologyKey: topology.kubernetes.io/zone
  whenUnsatisfiable: {{ .spread.zones }}
  labelSelector:
    matchLabels:
      {{- .selector | nindent 6 }}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: {{ .spread.hosts }}
  labelSelector:
    matchLabels:
      {{- .selector | nindent 6 }}
{{- end -}}

{{/* Told to end, a process shows that it is not ready, lets calls finish, then lets its background work finish: each of the
     last two within drain.seconds. Ten seconds more are for closing stores and sending the last traces. */}}
{{- define "attune-lib.grace" -}}
{{- add (int .drain.preStopSeconds) (mul 2 (int .drain.seconds)) 10 -}}
{{- end -}}

{{- define "attune-lib.pod" -}}
{{- $values := .root.Values -}}
{{- $service := .service -}}
{{- $facts := .facts -}}
{{- $secrets := include "attune-lib.secrets" . | fromYaml -}}
{{- $bundle := has "bundle" $facts.reads -}}
metadata:
  labels:
    {{- include "attune-lib.labels" . | nindent 4 }}
    {{- if eq $values.mesh.kind "istio" }}
    sidecar.istio.io/inject: "true"
    {{- end }}
    {{- with $service.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ include "attune-lib.config" . | sha256sum }}
    {{- if eq $values.mesh.kind "linkerd" }}
    linkerd.io/inject: enabled
    {{- end }}
    {{- with $service.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "attune-lib.fullname" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "attune-lib.grace" $service }}
  securityContext:
    {{- include "attune-lib.podSecurity" (dict) | nindent 4 }}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $service.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $service.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $service.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- include "attune-lib.spread" (dict "selector" (include "attune-lib.selector" .) "spread" $service.spread) | nindent 4 }}
  {{- if and $bundle $values.model.image }}
  initContainers:
    - name: model
      image: {{ $values.model.image }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      command:
        {{- toYaml $values.model.command | nindent 8 }}
      securityContext:
        {{- include "attune-lib.containerSecurity" . | nindent 8 }}
      resources:
        requests: {cpu: 50m, memory: 32Mi}
        limits: {memory: 128Mi}
      volumeMounts:
        - {name: model, mountPath: /model}
  {{- end }}
  containers:
    - name: {{ .name }}
      image: {{ include "attune-lib.image" . }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args:
        {{- if eq .name "attune" }}
        - up
        - --state=/var/lib/attune
        - --listen=0.0.0.0:{{ $service.ports.http | int }}
        - --config=/etc/attune/config.toml
        - --json
        {{- range $service.arguments }}
        - {{ . | quote }}
        {{- end }}
        {{- else }}
        {{- if not $values.image.perService }}
        - service
        - {{ .name }}
        {{- end }}
        - --config=/etc/attune/config.toml
        {{- end }}
      {{- $env := $service.env }}
      {{- if or $env (ne .name "attune") }}
      env:
        {{- if ne .name "attune" }}
        - name: ATTUNE_{{ upper .name }}__PROCESS__INSTANCE
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        {{- end }}
        {{- range $key, $value := $env }}
        - {name: {{ $key }}, value: {{ $value | toString | quote }}}
        {{- end }}
      {{- end }}
      ports:
        {{- range $port, $number := $service.ports }}
        - {name: {{ $port }}, containerPort: {{ int $number }}, protocol: TCP}
        {{- end }}
      startupProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 3
        failureThreshold: {{ div (add (int $service.startSeconds) 2) 3 }}
      livenessProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 10
        timeoutSeconds: 3
      readinessProbe:
        {{- if eq $facts.probe "grpc" }}
        grpc: {port: {{ int $service.ports.grpc }}}
        {{- else }}
        httpGet: {path: /readyz, port: admin}
        {{- end }}
        periodSeconds: 3
        timeoutSeconds: 2
      lifecycle:
        preStop:
          sleep: {seconds: {{ int $service.drain.preStopSeconds }}}
      securityContext:
        {{- include "attune-lib.containerSecurity" . | nindent 8 }}
      resources:
        {{- toYaml $service.resources | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/attune/config.toml, subPath: config.toml, readOnly: true}
        {{- range $volume, $secret := $secrets }}
        - {name: {{ $volume }}, mountPath: /etc/attune/secrets/{{ $volume }}, readOnly: true}
        {{- end }}
        {{- if $bundle }}
        - name: model
          mountPath: /model
          readOnly: true
          {{- if and $values.model.claim $values.model.subPath }}
          subPath: {{ $values.model.subPath }}
          {{- end }}
        {{- end }}
        {{- if $facts.keeps }}
        {{- /* A folder of the volume: its root may hold lost+found, and a state folder is empty or a state folder. */}}
        - {name: state, mountPath: /var/lib/attune, subPath: state}
        {{- end }}
        {{- if eq .name "retrieval" }}
        - {name: index, mountPath: /var/cache/attune}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "attune-lib.name" . }}}
    {{- range $volume, $secret := $secrets }}
    - name: {{ $volume }}
      secret:
        secretName: {{ $secret.secret }}
        defaultMode: 0440
        items:
          {{- range $secret.keys }}
          - {key: {{ . | quote }}, path: {{ . | quote }}}
          {{- end }}
    {{- end }}
    {{- if $bundle }}
    - name: model
      {{- if $values.model.claim }}
      persistentVolumeClaim: {claimName: {{ $values.model.claim }}, readOnly: true}
      {{- else }}
      emptyDir: {sizeLimit: 2Gi}
      {{- end }}
    {{- end }}
    {{- if and $facts.keeps $service.persistence.existingClaim }}
    - name: state
      persistentVolumeClaim: {claimName: {{ $service.persistence.existingClaim }}}
    {{- end }}
    {{- if eq .name "retrieval" }}
    - name: index
      emptyDir: {sizeLimit: 4Gi}
    {{- end }}
{{- end -}}
