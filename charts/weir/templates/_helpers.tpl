{{/* Names, labels, and figures that follow from others. What the pods share is in _pod.tpl. */}}

{{- define "weir.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters, so that a component's name and the number of a pod still fit in a label. */}}
{{- define "weir.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "weir.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Name of a namespaced object: (list $ "ingest"). */}}
{{- define "weir.component" -}}
{{- printf "%s-%s" (include "weir.fullname" (index . 0)) (index . 1) -}}
{{- end -}}

{{/* Name of an object that belongs to the whole cluster: (list $ "controller"). */}}
{{- define "weir.clusterName" -}}
{{- $root := index . 0 -}}
{{- printf "%s-%s-%s" (include "weir.fullname" $root) (index . 1) $root.Release.Namespace | trimSuffix "-" -}}
{{- end -}}

{{/* What selects a component's pods; never changes, since selectors cannot: (list $ "ingest"). */}}
{{- define "weir.selector" -}}
app.kubernetes.io/name: {{ include "weir.name" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* (list $ "ingest") */}}
{{- define "weir.labels" -}}
{{- $root := index . 0 -}}
{{ include "weir.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: weir
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The data components of the mode, as a list in JSON. */}}
{{- define "weir.components" -}}
{{- ternary (list "single") (list "ingest" "query" "queue" "storage" "alerting") (eq .Values.mode "single") | toJson -}}
{{- end -}}

{{/* (list $ "weir-ingest") */}}
{{- define "weir.image" -}}
{{- $root := index . 0 -}}
{{- $image := $root.Values.image -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- index . 1 -}}:{{ default $root.Chart.AppVersion $image.tag -}}
{{- end -}}

{{- define "weir.tokenSecret" -}}
{{- default (include "weir.component" (list . "token")) .Values.token.existingSecret -}}
{{- end -}}

{{/* Address of a component within the cluster: (list $ "ingest"). In the mode single it is the same for all. */}}
{{- define "weir.url" -}}
{{- $root := index . 0 -}}
{{- $component := ternary "single" (index . 1) (eq $root.Values.mode "single") -}}
http://{{ include "weir.component" (list $root $component) }}.{{ $root.Release.Namespace }}:9360
{{- end -}}

{{/* Every replica of storage, in the order of their numbers. */}}
{{- define "weir.storageUrls" -}}
{{- $service := include "weir.component" (list . "storage") -}}
{{- $urls := list -}}
{{- range until (int .Values.storage.replicas) -}}
{{- $urls = append $urls (printf "http://%s-%d.%s.%s:9360" $service . $service $.Release.Namespace) -}}
{{- end -}}
{{- join "," $urls -}}
{{- end -}}

{{/* Names under which storage and alerting tell the log how far they have read. */}}
{{- define "weir.holdingGroups" -}}
{{- $replicas := int .Values.storage.replicas -}}
{{- if gt $replicas 1 -}}{{- range until $replicas -}}storage-{{ . }},{{- end -}}{{- else -}}storage,{{- end -}}alerting
{{- end -}}

{{- define "weir.globalRuleNamespaces" -}}
{{- default (list .Release.Namespace) .Values.controller.globalRuleNamespaces | join "," -}}
{{- end -}}

{{/* What the controller watches, as a list in JSON: the release's own namespace too, where Weir's own rules are; empty for all. */}}
{{- define "weir.watchNamespaces" -}}
{{- $names := .Values.controller.watchNamespaces -}}
{{- if $names -}}{{- $names = append $names .Release.Namespace | uniq -}}{{- end -}}
{{- $names | toJson -}}
{{- end -}}

{{/* What the controller may do where it watches: in the whole cluster, or in each namespace that it is confined to. */}}
{{- define "weir.controllerRules" -}}
- apiGroups: [weir.dev]
  resources: [alertrules, notificationchannels]
  verbs: [get, list, watch]
- apiGroups: [weir.dev]
  resources: [alertrules/status, notificationchannels/status]
  verbs: [get, patch]
# Secrets that channels refer to, one by one by their name; not to be listed.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* Bytes of a quantity such as 20Gi. The schema admits whole numbers with a binary unit only. */}}
{{- define "weir.bytes" -}}
{{- $units := dict "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := regexFind "[KMGT]i$" . -}}
{{- mul (trimSuffix $unit . | int64) (default 1 (get $units $unit)) -}}
{{- end -}}
