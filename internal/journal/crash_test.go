package journal

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const crashDir = "MINATO_TEST_JOURNAL"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		appendForEver(dir)
	}
	os.Exit(m.Run())
}

// appendForEver is the child: it says on stdout what was appended and made
// durable, until it is killed.
func appendForEver(dir string) {
	cfg := testConfig(dir)
	cfg.MaxBytes = 1 << 30
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	ctx := context.Background()
	j, err := Open(ctx, cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	base, err := j.Position(ctx, LiveReports)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format, args...)
	}
	var wg sync.WaitGroup
	for w := range 32 {
		wg.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("b%d-w%d-%d", base, w, i)
				data := []byte(strings.Repeat(key+" ", 1+i%200))
				seq, err := j.Append(ctx, LiveReports, key, data)
				if err == nil {
					err = j.Put(ctx, LiveCursors, fmt.Sprintf("w%d", w), fmt.Append(nil, seq))
				}
				if err == nil {
					err = j.Durable(ctx)
				}
				if err == nil && i%50 == 0 {
					err = j.PutPart(ctx, Live, key, bytes.NewReader(data))
					if err == nil {
						err = j.Durable(ctx)
					}
					if err == nil {
						say("part %s\n", key)
					}
				}
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				say("report %d %s %d\n", seq, key, len(data))
			}
		})
	}
	wg.Wait()
}

func TestAKilledProcessLosesNothingThatItAcknowledged(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.MaxBytes = 1 << 30
	require.NoError(t, Create(t.Context(), cfg, []byte("founded")))
	type acked struct {
		key  string
		size int
	}
	reports, parts := map[uint64]acked{}, map[string]bool{}
	for round := range 4 {
		child := exec.Command(os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), crashDir+"="+cfg.Dir)
		var stderr bytes.Buffer
		child.Stderr = &stderr
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			f := strings.Fields(lines.Text())
			switch {
			case len(f) == 2 && f[0] == "part":
				parts[f[1]] = true
			case len(f) == 4 && f[0] == "report":
				seq, err := strconv.ParseUint(f[1], 10, 64)
				require.NoError(t, err)
				size, err := strconv.Atoi(f[3])
				require.NoError(t, err)
				require.NotContains(t, reports, seq, "a sequence was given twice")
				reports[seq] = acked{f[2], size}
			}
			if n == 400+200*round { // in the middle of its work
				require.NoError(t, child.Process.Kill())
			}
		}
		require.Error(t, child.Wait())
		require.Empty(t, stderr.String())

		j, err := Open(t.Context(), cfg)
		require.NoError(t, err)
		last, err := j.Position(t.Context(), LiveReports)
		require.NoError(t, err)
		var found int
		require.NoError(t, j.ReadTo(t.Context(), LiveReports, 0, last, func(r Record) error {
			if a, ok := reports[r.Seq]; ok {
				if a.key != r.Key || a.size != len(r.Data) {
					return fmt.Errorf("%d was %v, is %s of %d", r.Seq, a, r.Key, len(r.Data))
				}
				found++
			}
			if want := strings.Repeat(r.Key+" ", len(r.Data)/(len(r.Key)+1)); want != string(r.Data) {
				return fmt.Errorf("%d is not whole", r.Seq)
			}
			return nil
		}))
		require.Equal(t, len(reports), found, "acknowledged is stored")
		for id := range parts {
			r, err := j.OpenPart(t.Context(), Live, id)
			require.NoError(t, err)
			b, err := io.ReadAll(r)
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(string(b), id))
		}
		for w := range 32 {
			_, err := j.Last(t.Context(), LiveCursors, fmt.Sprintf("w%d", w))
			require.NoError(t, err)
		}
		require.NoError(t, j.Close())
	}
	require.Greater(t, len(reports), 2000)
}
