{{/* What all pods of Weir have in common; each is called with (list $ COMPONENT), and looks up .Values.COMPONENT. */}}

{{/* Seconds that a pod may take to end: 5 in which the endpoints forget it, 20 in which the listener drains (the processes' own limit),
     20 for what the component has to finish, 15 to spare on a busy node. */}}
{{- define "weir.gracePeriod" -}}60{{- end -}}

{{- define "weir.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
labels:
  {{- include "weir.labels" . | nindent 2 }}
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The pod's side of the restricted Pod Security standard. The group owns the volumes. */}}
{{- define "weir.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
enableServiceLinks: false
{{- end -}}

{{/* The container's side of it. */}}
{{- define "weir.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- define "weir.podSpec" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $values := index $root.Values $component -}}
{{- $isController := eq $component "controller" -}}
serviceAccountName: {{ $isController | ternary (include "weir.component" (list $root "controller")) (include "weir.fullname" $root) }}
automountServiceAccountToken: {{ $isController }}
{{ include "weir.podSecurity" $root }}
terminationGracePeriodSeconds: {{ include "weir.gracePeriod" $root }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "weir.selector" (list $root $component) | nindent 8 }}
  {{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: token
    secret:
      secretName: {{ include "weir.tokenSecret" $root }}
      items:
        - key: {{ $root.Values.token.key }}
          path: token
      defaultMode: 0440
{{- end -}}

{{/* The container up to its arguments. */}}
{{- define "weir.container" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $image := eq $component "single" | ternary "weir" (printf "weir-%s" $component) -}}
name: {{ $component }}
image: {{ include "weir.image" (list $root $image) }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
{{ include "weir.containerSecurity" $root }}
resources:
  {{- toYaml (index $root.Values $component).resources | nindent 2 }}
startupProbe:
  httpGet: {path: /live, port: http}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /live, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /ready, port: http}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 2
env:
  - name: WEIR_LISTEN
    value: 0.0.0.0:9360
  - name: WEIR_LOG_LEVEL
    value: {{ $root.Values.log.level | quote }}
  - name: WEIR_LOG_FORMAT
    value: {{ $root.Values.log.format | quote }}
  - name: WEIR_TOKEN_FILE
    value: /var/run/weir/token/token
  - name: WEIR_INSTANCE
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  - name: WEIR_SELF_MONITORING_INTERVAL
    value: {{ $root.Values.selfMonitoring.enabled | ternary $root.Values.selfMonitoring.interval "0s" | quote }}
  {{- if ne $component "single" }}
  - name: WEIR_SELF_MONITORING_URL
    value: {{ include "weir.url" (list $root "ingest") }}/api/v1/write
  {{- end }}
  {{- with $root.Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Which container a volume of data and the token are seen in. */}}
{{- define "weir.mounts" -}}
volumeMounts:
  - name: token
    mountPath: /var/run/weir/token
    readOnly: true
{{- end -}}

{{/* Where a request may come in during the seconds in which the endpoints still name the pod. */}}
{{- define "weir.drain" -}}
{{- if semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version }}
lifecycle:
  preStop:
    sleep:
      seconds: 5
{{- end }}
{{- end -}}

{{/* The claim of a StatefulSet; it outlives the release. */}}
{{- define "weir.claim" -}}
{{- $root := index . 0 -}}
{{- $persistence := (index $root.Values (index . 1)).persistence -}}
volumeClaimTemplates:
  - apiVersion: v1
    kind: PersistentVolumeClaim
    metadata:
      name: data
      labels:
        {{- include "weir.selector" . | nindent 8 }}
      {{- with $persistence.annotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with $persistence.storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ $persistence.size }}
{{- end -}}

{{/* What every StatefulSet says of itself. */}}
{{- define "weir.statefulSet" -}}
podManagementPolicy: Parallel
persistentVolumeClaimRetentionPolicy:
  whenDeleted: Retain
  whenScaled: Retain
selector:
  matchLabels:
    {{- include "weir.selector" . | nindent 4 }}
{{- end -}}

{{/* Flags of blocks in object storage: called with (list $ COMPONENT SHARE), where one in SHARE of the volume is for local blocks. */}}
{{- define "weir.objectsArgs" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.objects -}}
{{- if .url }}
- --storage-objects={{ .url }}
- --storage-cache-bytes={{ div (include "weir.bytes" (index $root.Values (index $ 1)).persistence.size | int64) (index $ 2) }}
{{- with .endpoint }}
- --storage-objects-endpoint={{ . }}
{{- end }}
{{- with .region }}
- --storage-objects-region={{ . }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The keys for it. */}}
{{- define "weir.objectsEnv" -}}
{{- with .Values.objects }}
{{- if and .url .existingSecret }}
envFrom:
  - secretRef:
      name: {{ .existingSecret }}
{{- end }}
{{- end }}
{{- end -}}
