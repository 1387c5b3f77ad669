package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// theKey is what must stand in no output; the rest of the connection string may.
const (
	theKey        = "c2VjcmV0LWtleS1vZi1hLXRlc3QtMDEyMzQ1Njc4OTA="
	theConnection = "HostName=127.0.0.1:1;SharedAccessKeyName=service;SharedAccessKey=" + theKey
	theSignature  = "SharedAccessSignature sr=h&sig=" + theKey + "&se=1900000000&skn=service"
)

// slip is one way to put a key where it does not belong, or where it belongs and
// something else is wrong.
type slip struct {
	args, env []string
	stdin     string
}

func slips() map[string]slip {
	all := map[string]slip{
		"no such hub":        {args: []string{"apply", "plan.yaml"}, env: []string{"IOTHUB_SERVICE_CONNECTION_STRING=" + theConnection}},
		"no such hub, -v":    {args: []string{"apply", "-v", "--log-format", "json", "plan.yaml"}, env: []string{"IOTHUB_SERVICE_CONNECTION_STRING=" + theConnection}},
		"preview, no hub":    {args: []string{"preview", "--out", "pin.json", "plan.yaml"}, env: []string{"IOTHUB_SERVICE_CONNECTION_STRING=" + theConnection}},
		"no host":            {args: []string{"apply", "plan.yaml"}, env: []string{"IOTHUB_SERVICE_CONNECTION_STRING=SharedAccessKeyName=s;SharedAccessKey=" + theKey}},
		"no base64":          {args: []string{"apply", "plan.yaml"}, env: []string{"IOTHUB_SERVICE_CONNECTION_STRING=" + theConnection + "!"}},
		"a key alone":        {args: []string{"apply", "plan.yaml"}, env: []string{"IOTHUB_SERVICE_CONNECTION_STRING=SharedAccessKey=" + theKey}},
		"twice":              {args: []string{"apply", "--connection-string-file", "twice.txt", "plan.yaml"}},
		"proxy":              {args: []string{"apply", "plan.yaml"}, env: []string{"IOTHUB_SERVICE_CONNECTION_STRING=" + theConnection, "HTTPS_PROXY=http://user:" + theKey + "%zz@proxy"}},
		"stdin":              {args: []string{"apply", "--connection-string-file", "-", "plan.yaml"}, stdin: theConnection + "\n" + theConnection},
		"stdin as plan":      {args: []string{"apply", "--emulator", "-"}, stdin: theConnection},
		"CA file":            {args: []string{"apply", "--ca-file", "cs.txt", "--connection-string-file", "cs.txt", "plan.yaml"}},
		"variables":          {args: []string{"apply", "--emulator", "--var-file", "cs.txt", "plan.yaml"}},
		"variable file":      {args: []string{"apply", "--emulator", "--var-file", "vars.yaml", "vars-plan.yaml"}},
		"variable, preview":  {args: []string{"preview", "--emulator", "--var-file", "vars.yaml", "--out", "pin2.json", "vars-plan.yaml"}},
		"variable, number":   {args: []string{"validate", "number-plan.yaml"}, env: []string{"RUNNER_VAR_token=" + theSignature}},
		"variable, query":    {args: []string{"preview", "--emulator", "query-plan.yaml"}, env: []string{"RUNNER_VAR_token=" + theSignature}},
		"variable, device":   {args: []string{"apply", "--emulator", "vars-plan.yaml"}, env: []string{"RUNNER_VAR_token=" + theSignature}},
		"fleet":              {args: []string{"apply", "--emulator=cs.txt", "plan.yaml"}},
		"emulator":           {args: []string{"emulator", "--fleet", "cs.txt"}},
		"resume":             {args: []string{"apply", "--emulator", "--resume", "cs.txt", "plan.yaml"}},
		"journal":            {args: []string{"apply", "--emulator", "--journal", "cs.txt", "plan.yaml"}},
		"a token in a plan":  {args: []string{"validate", "token.yaml"}},
		"a token, sarif":     {args: []string{"validate", "--format", "sarif", "token.yaml"}},
		"a token, json talk": {args: []string{"apply", "--emulator", "--log-format", "json", "token.yaml"}},
	}
	for _, command := range []string{"apply", "preview", "validate", "explain", "emulator", "init", "schema", "completion", ""} {
		all["argument of "+command] = slip{args: []string{command, theConnection}}
		all["flag of "+command] = slip{args: []string{command, "--connection-string-file", theConnection, "plan.yaml"}}
		all["value of "+command] = slip{args: []string{command, "--nothing=" + theSignature}}
	}
	for _, command := range []string{"apply", "preview", "validate"} {
		all["plan of "+command] = slip{args: []string{command, "cs.txt"}}
	}
	return all
}

func TestNoOutputHoldsAKey(t *testing.T) {
	for name, tt := range slips() {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			plan := "version: 1\nname: p\njobs:\n  - {name: j, type: directMethod, target: deviceId = 'myDevice', method: lockDoor}\n"
			given := map[string]string{
				"cs.txt": theConnection + "\n", "twice.txt": theConnection + "\n" + theConnection + "\n", "plan.yaml": plan,
				"vars.yaml":        "token: " + theSignature + "\n",
				"vars-plan.yaml":   "version: 1\nname: p\nvars: {token: {}}\njobs:\n  - {name: j, type: updateTwin, target: deviceId = 'myDevice', desired: {token: \"${var.token}\"}}\n",
				"number-plan.yaml": "version: 1\nname: p\nvars: {token: {type: integer}}\njobs:\n  - {name: j, type: updateTwin, target: deviceId = 'myDevice', desired: {n: \"${var.token}\"}}\n",
				"query-plan.yaml":  "version: 1\nname: p\nvars: {token: {}}\njobs:\n  - {name: j, type: directMethod, target: \"deviceId = '${var.token}'\", method: lockDoor}\n",
				"token.yaml":       plan + "    # " + theSignature + "\n",
			}
			for file, text := range given {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var out, say bytes.Buffer
			run(tt.args, environment{stdin: strings.NewReader(tt.stdin), stdout: &out, stderr: &say, getenv: func(key string) string {
				for _, set := range append(tt.env, "XDG_STATE_HOME="+dir+"/state", "HOME="+dir) {
					if value, ok := strings.CutPrefix(set, key+"="); ok {
						return value
					}
				}
				return ""
			}})
			for stream, text := range map[string]string{"stdout": out.String(), "stderr": say.String()} {
				if strings.Contains(text, theKey) {
					t.Errorf("%s holds the key:\n%s", stream, text)
				}
			}
			if say.Len() == 0 && out.Len() == 0 {
				t.Error("nothing was said")
			}
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() || given[filepath.Base(path)] != "" {
					return err
				}
				text, err := os.ReadFile(path)
				if bytes.Contains(text, []byte(theKey)) {
					t.Errorf("%s holds the key", path)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
