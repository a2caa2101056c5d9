package oci

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestChanges: what docker commit makes of the same words.
func TestChanges(t *testing.T) {
	const before = `{"Env":["PATH=/bin","A=1"],"Cmd":["sh"],"Labels":{"x":"y"},"WorkingDir":"/srv","Unknown":{"stays":1}}`
	tests := []struct {
		changes string // a line each
		want    string // members that differ from before; null if it is gone
	}{
		{`CMD ["a", "b c"]`, `{"Cmd":["a","b c"]}`},
		{`cmd echo "$HOME"`, `{"Cmd":["/bin/sh","-c","echo \"$HOME\""]}`},
		{`CMD ['no', 'json']`, `{"Cmd":["/bin/sh","-c","['no', 'json']"]}`},
		{`CMD []`, `{"Cmd":[]}`},
		{`ENTRYPOINT ["x"]`, `{"Entrypoint":["x"],"Cmd":null}`},
		{"CMD [\"c\"]\nENTRYPOINT x y", `{"Entrypoint":["/bin/sh","-c","x y"],"Cmd":["c"]}`},
		{"ENTRYPOINT [\"x\"]\nCMD [\"c\"]", `{"Entrypoint":["x"],"Cmd":["c"]}`},
		{`ENV A=2 B="x y" C=it\'s`, `{"Env":["PATH=/bin","A=2","B=x y","C=it's"]}`},
		{`ENV PATH=$PATH:/opt ONE=${A}1 D=${NONE:-def} P=${A:+set} Q='$A' R=\$A S="\$A\x"`, `{"Env":["PATH=/bin:/opt","A=1","ONE=11","D=def","P=set","Q=$A","R=$A","S=$A\\x"]}`},
		{`ENV old  the rest of it`, `{"Env":["PATH=/bin","A=1","old=the rest of it"]}`},
		{"ENV X=1\nENV Y=$X", `{"Env":["PATH=/bin","A=1","X=1","Y=1"]}`},
		{`EXPOSE 80 443/UDP 8000-8002/tcp $A`, `{"ExposedPorts":{"1/tcp":{},"443/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{},"8002/tcp":{}}}`},
		{`LABEL "a b"=c x=$A`, `{"Labels":{"a b":"c","x":"1"}}`},
		{`USER 1000:$A`, `{"User":"1000:1"}`},
		{`WORKDIR sub/../dir`, `{"WorkingDir":"/srv/dir"}`},
		{`WORKDIR /a//b/`, `{"WorkingDir":"/a/b"}`},
		{`WORKDIR "/with space"`, `{"WorkingDir":"/with space"}`},
		{`VOLUME /a /b`, `{"Volumes":{"/a":{},"/b":{}}}`},
		{`VOLUME ["/c d"]`, `{"Volumes":{"/c d":{}}}`},
		{`STOPSIGNAL SIGQUIT`, `{"StopSignal":"SIGQUIT"}`},
		{`STOPSIGNAL 9`, `{"StopSignal":"9"}`},
		{"ONBUILD RUN make $x\nONBUILD COPY . /", `{"OnBuild":["RUN make $x","COPY . /"]}`},
		{`HEALTHCHECK NONE`, `{"Healthcheck":{"Test":["NONE"]}}`},
		{`HEALTHCHECK --interval=5m --timeout=3s --start-period=1s --start-interval=1s --retries=2 CMD curl -f x`,
			`{"Healthcheck":{"Test":["CMD-SHELL","curl -f x"],"Interval":300000000000,"Timeout":3000000000,"StartPeriod":1000000000,"StartInterval":1000000000,"Retries":2}}`},
		{`HEALTHCHECK CMD ["true"]`, `{"Healthcheck":{"Test":["CMD","true"]}}`},
	}
	for _, tt := range tests {
		r := runConfig{fields: map[string]json.RawMessage{}}
		want := map[string]json.RawMessage{}
		for _, into := range []map[string]json.RawMessage{r.fields, want} {
			if err := json.Unmarshal([]byte(before), &into); err != nil {
				t.Fatal(err)
			}
		}
		if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
			t.Fatal(err)
		}
		for key, v := range want {
			if string(v) == "null" {
				delete(want, key)
			}
		}
		for line := range strings.Lines(tt.changes) {
			c, err := ParseChange(line)
			if err == nil {
				err = c.apply(&r)
			}
			if err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
		got, _ := json.Marshal(r.fields)
		wanted, _ := json.Marshal(want)
		if string(got) != string(wanted) {
			t.Errorf("%s\n got %s\nwant %s", tt.changes, got, wanted)
		}
	}
}

func TestBadChanges(t *testing.T) {
	tests := []struct{ change, says string }{
		{"", "it is empty"},
		{"RUN make", "RUN does not change a config: want CMD, ENTRYPOINT, ENV, EXPOSE"},
		{"FROM x", "FROM does not change"},
		{"ENV", "ENV wants an argument"},
		{"ENV A", "ENV wants KEY=VALUE"},
		{"ENV A=1 B", `"B" is no KEY=VALUE`},
		{"ENV =1", "has no key"},
		{`ENV A="1`, `" is not closed`},
		{"EXPOSE http", `"http" is no PORT`},
		{"EXPOSE 70000", "is no PORT"},
		{"EXPOSE 9-8", "is no PORT"},
		{"EXPOSE 80/icmp", "is no PORT"},
		{"STOPSIGNAL SIGNOTHING", "is no signal"},
		{"STOPSIGNAL 65", "is no signal"},
		{"ONBUILD FROM x", "FROM cannot be a trigger"},
		{`VOLUME [""]`, "cannot be an empty path"},
		{"HEALTHCHECK x", "want NONE, or"},
		{"HEALTHCHECK --retries=x CMD y", "wants a number"},
		{"HEALTHCHECK --interval=1 CMD y", "wants a duration"},
		{"HEALTHCHECK --often CMD y", "there is no flag --often"},
		{"HEALTHCHECK CMD []", "the command is missing"},
	}
	for _, tt := range tests {
		if _, err := ParseChange(tt.change); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", tt.change, err, tt.says)
		}
	}
	r := runConfig{fields: map[string]json.RawMessage{}}
	for _, text := range []string{"EXPOSE $PORT", "ENV A=${B", "ENV A=${B:?x}", "USER ${!}"} {
		c, err := ParseChange(text)
		if err == nil {
			err = c.apply(&r)
		}
		if err == nil {
			t.Errorf("%s works", text)
		}
	}
}
