package main

import (
	_ "embed"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"strata/bench"
	"strata/internal/container"
)

//go:embed INTERFACE.md
var interfacePage string

// TestInterfacePage holds the page for scripts against the types.
func TestInterfacePage(t *testing.T) {
	for heading, types := range map[string][]any{
		"load":    {loadedJSON{}},
		"images":  {imageJSON{}, treeNode{}},
		"pull":    {loadedJSON{}},
		"push":    {pushedJSON{}, remadeJSON{}},
		"history": {historyJSON{}},
		"ps":      {containerJSON{}},
		"diff":    {changeJSON{}},
		"layers":  {layerJSON{}},
		"explain": {explainJSON{}, linkJSON{}, wordJSON{}},
		"trace":   {container.TraceHeader{}, container.TraceEvent{}},
		"df":      {dfJSON{}, kindJSON{}, dfLayerJSON{}},
		"bench fs": {bench.FSReport{}, bench.Environment{}, bench.Disk{}, bench.Sizes{}, bench.ContenderReport{},
			bench.WorkloadReport{}, bench.Result{}, bench.Summary{}, bench.TargetReport{}},
		"gc":       {freedJSON{}, heldJSON{}, holderJSON{}},
		"fsck":     {fsckJSON{}, damageJSON{}},
		"version":  {versionJSON{}},
		"inspect":  {inspectedImage{}, inspectedRootFS{}, inspectedLayer{}, inspectedContainer{}, inspectedState{}},
		"ls":       {fileJSON{}},
		"commit":   {commitJSON{}},
		"squash":   {squashedJSON{}, lostShareJSON{}},
		"waste":    {wasteJSON{}, wasteLayerJSON{}, wastedFileJSON{}},
		"snapshot": {snapshotJSON{}},
	} {
		_, section, found := strings.Cut(interfacePage, "\n### "+heading+" --json")
		if !found {
			t.Errorf("no section on %s --json", heading)
		}
		section, _, _ = strings.Cut(section, "\n### ")
		for _, v := range types {
			for _, field := range jsonFields(reflect.TypeOf(v)) {
				if !regexp.MustCompile(`\b` + field + `\b`).MatchString(section) {
					t.Errorf("%s --json: field %s is not on the page", heading, field)
				}
			}
		}
	}
}

func jsonFields(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			names = append(names, jsonFields(f.Type)...)
			continue
		}
		if !f.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name
		}
		names = append(names, name)
	}
	return names
}
