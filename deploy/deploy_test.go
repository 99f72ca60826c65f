// Package deploy_test checks the files that operators copy: a unit with a
// mistyped key or an example that does not load is worse than none.
package deploy_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"minato.example/hub"
	"minato.example/node"
)

var units = []string{"minato-hub.service", "minato-node.service"}

// unit holds the values of each "Section.Key", in order.
type unit map[string][]string

func parseUnit(t *testing.T, name string) unit {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	u := unit{}
	section := ""
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "", strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]")
			require.Containsf(t, []string{"Unit", "Service", "Install"}, section, "%s", name)
		default:
			key, value, ok := strings.Cut(line, "=")
			require.Truef(t, ok && section != "", "%s: %q is not key=value in a section", name, line)
			u[section+"."+key] = append(u[section+"."+key], value)
		}
	}
	require.NoError(t, lines.Err())
	return u
}

func TestUnitsStartTheDaemonAndFenceItIn(t *testing.T) {
	for _, name := range units {
		u := parseUnit(t, name)
		service := strings.TrimSuffix(name, ".service")
		role := strings.TrimPrefix(service, "minato-")
		one := func(key, want string) {
			t.Helper()
			require.Equalf(t, []string{want}, u[key], "%s: %s", name, key)
		}
		one("Service.Type", "notify")
		one("Service.User", service)
		one("Service.StateDirectory", service)
		one("Service.StateDirectoryMode", "0700")
		one("Service.UMask", "0077")
		one("Service.ExecStart", "/usr/bin/minato "+role+" run -c /var/lib/"+service+"/"+role+".toml")
		one("Service.Restart", "always")
		one("Service.CapabilityBoundingSet", "")
		one("Service.NoNewPrivileges", "yes")
		one("Service.ProtectSystem", "strict")
		one("Service.MemoryDenyWriteExecute", "yes")
		one("Service.LimitCORE", "0") // a core file holds keys and reports
		one("Install.WantedBy", "multi-user.target")
		for key, values := range u {
			if key != "Service.SystemCallFilter" {
				require.Lenf(t, values, 1, "%s: %s stands more than once", name, key)
			}
		}
	}
}

func TestUnitsShareTheirFence(t *testing.T) {
	hubUnit, nodeUnit := parseUnit(t, units[0]), parseUnit(t, units[1])
	// What a role needs of its own.
	own := []string{"Unit.Description", "Service.User", "Service.Group", "Service.StateDirectory", "Service.ExecStart",
		"Service.LimitNOFILE", "Service.Environment", "Service.MemoryMax", "Service.TasksMax", "Service.RestrictAddressFamilies"}
	for _, key := range own {
		require.Contains(t, hubUnit, key)
		require.Contains(t, nodeUnit, key)
		delete(hubUnit, key)
		delete(nodeUnit, key)
	}
	require.Equal(t, hubUnit, nodeUnit)
}

func TestSystemdAcceptsTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not installed: the units were parsed here but NOT checked by systemd")
		return
	}
	dir := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	for _, name := range units {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		// The check wants the program to be there; any program will do.
		placed := bytes.ReplaceAll(data, []byte("ExecStart=/usr/bin/minato "), []byte("ExecStart="+self+" "))
		require.NotEqual(t, data, placed)
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, placed, 0o600))

		out, err := exec.Command(analyze, "verify", "--man=no", file).CombinedOutput()
		require.NoErrorf(t, err, "systemd-analyze verify %s:\n%s", name, out)
		mine := slices.DeleteFunc(strings.Split(string(out), "\n"), func(line string) bool { return !strings.Contains(line, name) })
		require.Emptyf(t, mine, "systemd-analyze verify %s warns", name)

		// Exposure in tenths, 0 (best) to 100.
		out, err = exec.Command(analyze, "security", "--offline=yes", "--threshold=15", "--no-pager", file).CombinedOutput()
		require.NoErrorf(t, err, "systemd-analyze security %s:\n%s", name, out)
	}
}

func TestTheExampleOfTheHubLoads(t *testing.T) {
	_, err := hub.ReadConfig("hub.toml")
	require.NoError(t, err)
}

func TestTheExampleOfANodeLoads(t *testing.T) {
	_, err := node.ReadConfig("node.toml")
	require.NoError(t, err)
}

// The accounts that the units name are the accounts that sysusers creates.
func TestEveryServiceHasItsAccount(t *testing.T) {
	data, err := os.ReadFile("minato.sysusers.conf")
	require.NoError(t, err)
	for _, name := range units {
		user := parseUnit(t, name)["Service.User"][0]
		require.Contains(t, string(data), "\nu "+user+" - ")
		require.Contains(t, string(data), " /var/lib/"+user+"\n")
	}
}
