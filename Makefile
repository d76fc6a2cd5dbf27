# The two commands of the README, and what is around them. Everything is built into target/.
.PHONY: run test demo ci fmt bench loadtest images kind minikube e2e

# Builds Weir and runs it in the foreground, with its data under ./data and the example rules.
run:
	cargo run --release --locked -p weir -- run --data ./data --rules manifests/examples

# Every test there is; says what it needs and does not find.
test:
	@.ci/test

# Drives a running Weir as a newcomer would: load, queries, an alert that fires and resolves.
demo:
	cargo run --release --locked -q -p weir -- demo

# What continuous integration runs: the tests, then the lints.
ci:
	@.ci/run

fmt:
	cargo fmt --all

# The benches of all crates; they print figures and assert nothing.
bench:
	cargo bench --workspace

# Load at a constant rate, with objectives, against a process of its own; needs k6 and target/release/weir (loadtest/README.md).
loadtest:
	@loadtest/run

# The images of all components, by docker, podman or buildah. PROGRAMS=1 builds the programs on this machine, so that no image has to be pulled.
images:
	@images/build $(if $(PROGRAMS),--programs)

# The images, loaded into a local cluster, and the chart installed there.
kind: images
	@images/install kind

minikube: images
	@images/install minikube

# The chart on a real kubelet: installed, tested, upgraded, rolled back, uninstalled. Needs root on Linux.
e2e:
	@.ci/e2e
