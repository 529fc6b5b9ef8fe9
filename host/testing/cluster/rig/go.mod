// Small programs of the test cluster's own. The standard library is enough for them.
module penstock.dev/testing/cluster/rig

go 1.26.0
