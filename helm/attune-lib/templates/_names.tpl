{{/* Names and labels. The context of a service is {root, name, facts, service}. */}}

{{- define "attune-lib.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "attune-lib.name" -}}
{{- $full := include "attune-lib.fullname" .root -}}
{{- if eq .name "attune" -}}{{ $full }}{{- else -}}{{ $full }}-{{ .name }}{{- end -}}
{{- end -}}

{{- define "attune-lib.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "attune-lib.labels" -}}
{{ include "attune-lib.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: attune
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* name, namespace and labels of an object: {root, name, suffix} */}}
{{- define "attune-lib.meta" -}}
name: {{ include "attune-lib.name" . }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "attune-lib.labels" . | nindent 2 }}
{{- end -}}

{{- define "attune-lib.image" -}}
{{- $image := .root.Values.image -}}
{{- $repository := $image.repository -}}
{{- if and $image.perService (ne .name "attune") -}}{{- $repository = printf "%s-%s" $repository .name -}}{{- end -}}
{{- if $image.digest -}}{{ $repository }}@{{ $image.digest }}
{{- else -}}{{ $repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Every enabled service with its facts and its values over the defaults, as YAML. */}}
{{- define "attune-lib.services" -}}
{{- $all := dict -}}
{{- range $name, $facts := .Files.Get "files/services.yaml" | fromYaml -}}
{{- $service := mergeOverwrite (deepCopy $.Values.defaults) (deepCopy (index $.Values.services $name)) -}}
{{- if $service.enabled -}}
{{- $_ := set $all $name (dict "facts" $facts "service" $service) -}}
{{- end -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* Where a service is reached: {root, name, port} */}}
{{- define "attune-lib.address" -}}
{{- $origin := .root.Values.externalOrigin -}}
{{- if and (eq .name "origin") $origin -}}{{ $origin }}
{{- else -}}
{{- $host := include "attune-lib.name" . -}}
{{- /* A mesh balances single calls behind one address; without one, connections are spread over the copies' own. */ -}}
{{- if eq .root.Values.mesh.kind "none" -}}{{- $host = printf "%s-headless" $host -}}{{- end -}}
http://{{ $host }}:{{ (index .root.Values.services .name).ports.grpc | int }}
{{- end -}}
{{- end -}}
