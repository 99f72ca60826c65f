// Command mutants seeds one fault after the other into the code that decides
// who may have a report, and demands of each that it turns a test red. What no
// test notices could be broken tomorrow by anybody.
//
// The tree is never changed: the compiler is given the faulty file in place of
// the true one (go build -overlay).
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// mutant is one fault: in file, which must hold old exactly once, new stands
// instead. One of the tests that run names must fail then.
type mutant struct {
	why      string // the rule that it breaks
	file     string // from the root of the module
	old, new string
	tests    tests
}

// tests are those of one package that a pattern names.
type tests struct{ pkg, run string }

// patience bounds the tests of one mutant: a fault may also make them hang.
const patience = 300 * time.Second

// errSurvived says that no test noticed the fault.
var errSurvived = errors.New("all tests pass")

func main() {
	only := flag.String("only", "", "seed only the faults whose rule or file has this in it")
	jobs := flag.Int("jobs", 2, "faults at a time")
	flag.Parse()
	if err := run(context.Background(), *only, *jobs); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, jobs int) error {
	begin := time.Now()
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	chosen := slices.DeleteFunc(slices.Clone(mutants), func(m mutant) bool { return !strings.Contains(m.why+m.file, only) })
	if len(chosen) == 0 {
		return fmt.Errorf("no fault has %q in its rule or file", only)
	}
	if err := sound(ctx, root, chosen); err != nil {
		return err
	}
	s := seeder{root: root, dir: dir}
	var mu sync.Mutex
	var wg sync.WaitGroup
	killed, wrong := 0, []string{}
	next := make(chan int)
	for range jobs {
		wg.Go(func() {
			for i := range next {
				m, began := chosen[i], time.Now()
				err := s.seed(ctx, m, filepath.Join(dir, fmt.Sprint(i)))
				mu.Lock()
				word := "killed  "
				if err == nil {
					killed++
				} else {
					word = "NOT RUN "
					if errors.Is(err, errSurvived) {
						word = "SURVIVED"
					}
					wrong = append(wrong, fmt.Sprintf("%s (%s): %v", m.why, m.file, err))
				}
				fmt.Printf("%s %5.1fs  %-28s %s\n", word, time.Since(began).Seconds(), m.file, m.why)
				mu.Unlock()
			}
		})
	}
	for i := range chosen {
		next <- i
	}
	close(next)
	wg.Wait()
	fmt.Printf("%d of %d seeded faults turned a test red, in %s\n", killed, len(chosen), time.Since(begin).Round(time.Second))
	if len(wrong) > 0 {
		return fmt.Errorf("write a test that notices these faults, or the fault anew where it cannot be run:\n  %s", strings.Join(wrong, "\n  "))
	}
	return nil
}

// sound demands that every test which has to die is alive without a fault.
func sound(ctx context.Context, root string, chosen []mutant) error {
	patterns := map[string][]string{}
	for _, m := range chosen {
		if all := patterns[m.tests.pkg]; !slices.Contains(all, m.tests.run) {
			patterns[m.tests.pkg] = append(all, m.tests.run)
		}
	}
	for pkg, runs := range patterns {
		out, err := goTest(ctx, root, tests{pkg, strings.Join(runs, "|")})
		if err != nil {
			return fmt.Errorf("the tests of %s fail without a fault:\n%s", pkg, out)
		}
	}
	return nil
}

// policy is the one file that the tests read anew at every start: its faults
// need no build.
const policy = "hub/policy.toml"

// seeder seeds faults, several at a time.
type seeder struct {
	root, dir string
	built     sync.Once // the tests of the policy, without a fault
	binary    string
	failed    error
}

// seed seeds one fault, with a folder to work in, and says why nothing came of
// it.
func (s *seeder) seed(ctx context.Context, m mutant, dir string) error {
	faulty, err := m.seeded(s.root)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, filepath.Base(m.file))
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(file, faulty, 0o600)); err != nil {
		return err
	}
	var out []byte
	if m.file == policy {
		out, err = s.withPolicy(ctx, m.tests, file)
	} else {
		out, err = s.withFile(ctx, m, dir, file)
	}
	switch {
	case err == nil && bytes.Contains(out, []byte("no tests to run")):
		return fmt.Errorf("no test of %s is named %s", m.tests.pkg, m.tests.run)
	case err == nil:
		return errSurvived
	case bytes.Contains(out, []byte("[build failed]")) || bytes.Contains(out, []byte("[setup failed]")):
		return fmt.Errorf("it does not compile:\n%s", out)
	case m.file == policy && bytes.Contains(out, []byte("panic:")):
		return fmt.Errorf("it is no policy any more:\n%s", out)
	case !bytes.Contains(out, []byte("--- FAIL")):
		return fmt.Errorf("the tests could not be run:\n%s", out)
	}
	return nil
}

// withFile runs the tests with the faulty file in place of the true one.
func (s *seeder) withFile(ctx context.Context, m mutant, dir, file string) ([]byte, error) {
	list, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(s.root, m.file): file}})
	if err != nil {
		return nil, err
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, list, 0o600); err != nil {
		return nil, err
	}
	return goTest(ctx, s.root, m.tests, "-count=1", "-overlay="+overlay)
}

// withPolicy runs the tests with a faulty policy.
func (s *seeder) withPolicy(ctx context.Context, t tests, file string) ([]byte, error) {
	s.built.Do(func() {
		s.binary = filepath.Join(s.dir, "policy.test")
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-o", s.binary, t.pkg)
		cmd.Dir = s.root
		if out, err := cmd.CombinedOutput(); err != nil {
			s.failed = fmt.Errorf("build the tests of %s: %w\n%s", t.pkg, err, out)
		}
	})
	if s.failed != nil {
		return nil, s.failed
	}
	cmd := exec.CommandContext(ctx, s.binary, "-test.failfast", "-test.timeout="+patience.String(), "-test.run="+t.run)
	cmd.Dir = filepath.Join(s.root, t.pkg)
	cmd.Env = append(os.Environ(), "MINATO_FAULTY_POLICY="+file)
	return cmd.CombinedOutput()
}

// seeded is the file with the fault.
func (m mutant) seeded(root string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(data, []byte(m.old)); n != 1 {
		return nil, fmt.Errorf("the text of the fault stands %d times in %s, not once: the code has changed, write the fault anew:\n%s", n, m.file, m.old)
	}
	return bytes.Replace(data, []byte(m.old), []byte(m.new), 1), nil
}

// goTest runs tests of one package. Without -count=1 an answer of an earlier
// run over the same code will do.
func goTest(ctx context.Context, root string, t tests, more ...string) ([]byte, error) {
	args := append([]string{"test", "-failfast", "-vet=off", "-timeout=" + patience.String(), "-run=" + t.run}, more...)
	cmd := exec.CommandContext(ctx, "go", append(args, t.pkg)...)
	cmd.Dir = root
	return cmd.CombinedOutput()
}

// moduleRoot is the folder of go.mod.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}
