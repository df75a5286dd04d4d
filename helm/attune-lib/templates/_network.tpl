{{/* Who may speak to whom, from the call graph: {root, name, facts, service, services} */}}

{{- define "attune-lib.networkpolicy" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $policy := $values.networkPolicy -}}
{{- $name := .name -}}
{{- $service := .service -}}
{{- $meshed := ne $values.mesh.kind "none" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "attune-lib.meta" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "attune-lib.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- if $service.ports.http }}
    - ports: [{protocol: TCP, port: http}]
      {{- with $policy.visitors }}
      from:
        {{- toYaml . | nindent 8 }}
        - podSelector:
            matchLabels:
              {{- include "attune-lib.selector" (dict "root" $root "name" "test") | nindent 14 }}
      {{- end }}
    {{- end }}
    {{- $callers := list }}
    {{- range $caller, $each := .services }}
    {{- if has $name $each.facts.calls }}{{ $callers = append $callers $caller }}{{ end }}
    {{- end }}
    {{- if and $service.ports.grpc (or $callers (and (eq $name "origin") $policy.externalEdges)) }}
    - ports: [{protocol: TCP, port: grpc}]
      from:
        {{- range $callers }}
        - podSelector:
            matchLabels:
              {{- include "attune-lib.selector" (dict "root" $root "name" .) | nindent 14 }}
        {{- end }}
        {{- if eq $name "origin" }}
        {{- with $policy.externalEdges }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- end }}
    {{- end }}
    {{- $admins := $policy.monitoring }}
    {{- if $service.ports.http }}{{ $admins = concat $admins $policy.operators }}{{ end }}
    {{- with $admins }}
    - ports: [{protocol: TCP, port: admin}]
      from:
        {{- toYaml . | nindent 8 }}
    {{- end }}
    {{- if $meshed }}
    {{- /* What a mesh encrypts arrives at its proxy's port, whoever it is for. */}}
    - ports: [{protocol: TCP, port: {{ if eq $values.mesh.kind "linkerd" }}4143{{ else }}15006{{ end }}}]
      {{- if not (and $service.ports.http (empty $policy.visitors)) }}
      from:
        {{- range $callers }}
        - podSelector:
            matchLabels:
              {{- include "attune-lib.selector" (dict "root" $root "name" .) | nindent 14 }}
        {{- end }}
        {{- $others := $admins }}
        {{- if $service.ports.http }}{{ $others = concat $others $policy.visitors }}{{ end }}
        {{- if eq $name "origin" }}{{ $others = concat $others $policy.externalEdges }}{{ end }}
        {{- with $others }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
    {{- end }}
  egress:
    - ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
      to:
        {{- toYaml $policy.dns | nindent 8 }}
    {{- range $callee := .facts.calls }}
    {{- with index $.services $callee }}
    - ports:
        - {protocol: TCP, port: grpc}
        {{- if $meshed }}
        - {protocol: TCP, port: {{ if eq $values.mesh.kind "linkerd" }}4143{{ else }}15006{{ end }}}
        {{- end }}
      to:
        - podSelector:
            matchLabels:
              {{- include "attune-lib.selector" (dict "root" $root "name" $callee) | nindent 14 }}
    {{- end }}
    {{- end }}
    {{- if and (has "origin" .facts.calls) $values.externalOrigin }}
    - ports: [{protocol: TCP, port: {{ $values.externalOrigin | regexFind "[0-9]+$" | int }}}]
    {{- end }}
    {{- if and (eq $name "llm") $values.llmServer.enabled }}
    - ports: [{protocol: TCP, port: http}]
      to:
        - podSelector:
            matchLabels:
              {{- include "attune-lib.selector" (dict "root" $root "name" "llm-server") | nindent 14 }}
    {{- end }}
    {{- if or .facts.engines (eq $name "llm") $values.telemetry.otlp }}
    {{- range $policy.engines }}
    - ports:
        {{- range .ports }}
        - {protocol: TCP, port: {{ int . }}}
        {{- end }}
      {{- with .to }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    {{- end }}
    {{- if $meshed }}
    {{- range $policy.mesh }}
    - ports:
        {{- range .ports }}
        - {protocol: TCP, port: {{ int . }}}
        {{- end }}
      {{- with .to }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    {{- end }}
{{- end -}}
