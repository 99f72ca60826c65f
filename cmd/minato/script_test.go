//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// The scripts drive this very test binary as `minato`: real processes with real
// TLS, NATS, files and sockets. Beside the commands of testscript they have:
//
//	port [-still] MEMBER:ROLE[:COMMUNITY]...
//	                                 make a hub, run it, and let members join: each
//	                                 with a profile, a person `ciso` and a running node;
//	                                 -still leaves all of them to be started
//	join NAME MEMBER ROLE [COMMUNITY]...
//	                                 let the node NAME of a member join
//	profile NAME                     set the profile of a running node
//	start NAME                       run the daemon `hub`, or the node in $P/NAME
//	background NAME minato ARG...    run any command of minato beside the script
//	halt NAME                        SIGTERM; it must end with exit code 0
//	interrupt NAME                   SIGINT, the same
//	crash NAME                       SIGKILL
//	at NAME                          the next commands use the node in $P/NAME
//	connected NAME...                wait until the sessions of these nodes are open
//	eventually [-code N] [-stdout RE] minato ARG...
//	                                 repeat it until it ends and answers like that
//	exits CODE minato ARG...         run it; the exit code must be that
//	wait_stdout NAME RE              wait until a process beside the script prints it
//	ended NAME CODE                  wait until one has ended by itself with that code
//	arrived [-exercise] [-any] [TITLE]...
//	                                 wait until the inbox holds exactly these titles in
//	                                 this order, or in any; PREFIX-1..9 stands for nine
//	flood N PREFIX minato ARG...     run it N times beside the script with the titles
//	                                 PREFIX-1..N; exit codes 0 and 5 are fine
//	flooded [N]                      wait until N of them, or all, have been run
//	let NAME RE                      NAME becomes the first group of RE in stdout
//	edit FILE OLD NEW                replace the one OLD in a file
//	random FILE BYTES                make a file of random bytes, of hexadecimal digits
//	                                 when its name ends in .txt
//	keys KEY...                      each line of stdout is an object with these keys
//	screen                           stdout fits a screen: 40 lines of 120 columns
//	reds N MEMBER/PERSON TEXT        publish N reports under TLP:RED that hold the text
//	memory NAME has|lacks TEXT       search the memory of a running process
//	files NAME has|lacks TEXT        search every file in $P/NAME
//	logged NAME has|lacks TEXT       search what a running process has printed
//
// $P is a short folder of the script's own that holds hub/ and each node; $HUB
// and $NATS are its addresses.
var scriptCommands = map[string]func(*testscript.TestScript, bool, []string){
	"port": command((*world).port), "join": command((*world).join), "profile": command((*world).profile),
	"start": command((*world).start), "background": command((*world).background),
	"halt": command((*world).halt), "interrupt": command((*world).interrupt), "crash": command((*world).crash),
	"at": command((*world).at), "connected": command((*world).connected),
	"eventually": command((*world).eventually), "exits": command((*world).exits), "wait_stdout": command((*world).waitStdout),
	"ended":   command((*world).ended),
	"arrived": command((*world).arrived), "flood": command((*world).flood), "flooded": command((*world).flooded),
	"let": command((*world).let), "edit": command((*world).edit), "random": command((*world).random),
	"keys": command((*world).keys), "screen": command((*world).screen),
	"reds": command((*world).reds), "memory": command((*world).memory), "files": command((*world).files), "logged": command((*world).logged),
}

// patience bounds every wait of a script.
const patience = 40 * time.Second

// raceOptions spare each process the second that the race detector waits at
// its end; a race found ends it with a code that no script expects.
const raceOptions = "atexit_sleep_ms=0 exitcode=66"

func TestMain(m *testing.M) {
	os.Setenv("TZ", "UTC") // English times are local ones; read before the first of them
	testscript.Main(m, map[string]func(){"minato": main})
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		// These end or pass over a script as if it had passed.
		require.NotRegexp(t, `(?m)^\s*(\[.*\]|stop\b|skip\b|kill\b)`, string(text), file)
	}
	t.Cleanup(func() { require.NoError(t, ports.remove()) })
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireUniqueNames: true, Cmds: scriptCommands,
		Setup: func(e *testscript.Env) error {
			w, err := newWorld()
			if err != nil {
				return err
			}
			e.Values[worldKey{}] = w
			e.Setenv("P", w.dir)
			e.Setenv("HUB", w.hub)
			e.Setenv("NATS", w.nats)
			e.Setenv("TMPDIR", w.dir)
			e.Setenv("NO_COLOR", "1")
			e.Setenv("GORACE", raceOptions)
			e.Defer(func() {
				if err := w.end(); err != nil {
					e.T().Fatal(err)
				}
			})
			return nil
		},
	})
}

type worldKey struct{}

// world is what one script has made: a port and the processes of it. The
// script and errgroups of one command use it, so processes are guarded.
type world struct {
	ts             *testscript.TestScript
	dir, hub, nats string
	flooding       *flooding

	mu        sync.Mutex
	processes map[string]*process
}

func command(run func(*world, ...string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("this command cannot be negated")
		}
		w := ts.Value(worldKey{}).(*world)
		w.ts = ts
		ts.Check(run(w, args...))
	}
}

var errArgs = errors.New("wrong arguments; see script_test.go")

func newWorld() (*world, error) {
	// Not the folder of the test: the path of a Unix socket is bounded.
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, processes: map[string]*process{}}
	if w.hub, err = freeAddress(); err != nil {
		return nil, err
	}
	w.nats, err = freeAddress()
	return w, err
}

// nextListener counts below the range from which the system takes the ports of
// outgoing connections: a hub comes back to its address after a restart, and
// nothing must have taken it meanwhile.
var nextListener atomic.Int32

func freeAddress() (string, error) {
	first := 20000 + os.Getpid()%100*100
	for range 1000 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+int(nextListener.Add(1))))
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", errors.New("no free port on the loopback interface")
}

// process is one `minato` beside the script.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait, once done

	mu      sync.Mutex
	out     bytes.Buffer
	errs    bytes.Buffer
	changed chan struct{} // closed when out grows
}

// collector puts one stream of a process aside and wakes who waits for it.
type collector struct {
	p  *process
	to *bytes.Buffer
}

func (c collector) Write(b []byte) (int, error) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	close(c.p.changed)
	c.p.changed = make(chan struct{})
	return c.to.Write(b)
}

// until waits until the process has printed what re matches.
func (p *process) until(re *regexp.Regexp) (string, error) {
	timeUp := time.After(patience)
	for ended := false; ; {
		p.mu.Lock()
		out, errs, changed := p.out.String(), p.errs.String(), p.changed
		p.mu.Unlock()
		if re.MatchString(out) {
			return out, nil
		}
		if ended {
			return out, fmt.Errorf("%s has ended (%v) without %q\n%s\n%s", p.name, p.err, re, out, tail(errs))
		}
		select {
		case <-changed:
		case <-p.done:
			ended = true
		case <-timeUp:
			return out, fmt.Errorf("%s does not print %q\n%s\n%s", p.name, re, out, tail(errs))
		}
	}
}

// signal sends a signal and waits for the end.
func (p *process) signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); errors.Is(err, os.ErrProcessDone) {
		<-p.done
		return fmt.Errorf("%s has ended by itself: %v\n%s", p.name, p.err, tail(p.log()))
	} else if err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s does not end on %v\n%s", p.name, s, tail(p.log()))
	}
}

// log is what the process has written to stderr.
func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.errs.String()
}

func tail(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}

// minato makes the command `minato` as the script would run it, in a node.
func (w *world) minato(node string, args ...string) *exec.Cmd {
	cmd := exec.Command("minato", args...)
	cmd.Dir = w.ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "MINATO_NODE="+node, "MINATO_LANG="+w.ts.Getenv("MINATO_LANG"), "TMPDIR="+w.dir, "NO_COLOR=1", "GORACE="+raceOptions)
	return cmd
}

// call runs `minato` to its end and returns what it printed and its exit code.
func (w *world) call(node string, args ...string) (out, errs string, code int, err error) {
	cmd := w.minato(node, args...)
	var outBuf, errBuf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &outBuf, &errBuf
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code, err = exit.ExitCode(), nil
	}
	return outBuf.String(), errBuf.String(), code, err
}

// must is call for what has to succeed.
func (w *world) must(node string, args ...string) (string, error) {
	out, errs, code, err := w.call(node, args...)
	if err == nil && code != exitDone {
		err = fmt.Errorf("minato %q: exit code %d\n%s%s", args, code, out, errs)
	}
	return out, err
}

// run starts a process beside the script.
func (w *world) run(name, node string, args ...string) (*process, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, running := w.processes[name]; running {
		return nil, fmt.Errorf("%s is running already", name)
	}
	p := &process{name: name, cmd: w.minato(node, args...), done: make(chan struct{}), changed: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = collector{p, &p.out}, collector{p, &p.errs}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	w.processes[name] = p
	return p, nil
}

// take hands a process over to who ends it.
func (w *world) take(name string) (*process, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.processes[name]
	if !ok {
		return nil, fmt.Errorf("%s is not running", name)
	}
	delete(w.processes, name)
	return p, nil
}

func (w *world) nodeDir(name string) string { return filepath.Join(w.dir, name) }

// port makes a whole port of the members given as MEMBER:ROLE[:COMMUNITY] and
// runs it.
func (w *world) port(members ...string) error {
	still := len(members) > 0 && members[0] == "-still"
	if still {
		members = members[1:]
	}
	made, err := ports.made(w, members)
	if err != nil {
		return err
	}
	if err := made.copyTo(w); err != nil || still {
		return err
	}
	if err := w.start("hub"); err != nil {
		return err
	}
	var g errgroup.Group
	for _, m := range members {
		g.Go(func() error { return w.start(memberOf(m)) })
	}
	return g.Wait()
}

func memberOf(spec string) string {
	member, _, _ := strings.Cut(spec, ":")
	return member
}

// makePort makes the port with the commands that people type, and ends it.
func (w *world) makePort(members []string) error {
	if _, err := w.must("", "hub", "init", "--dir", w.nodeDir("hub"), "--port", "tsu", "--listen", w.hub, "--nats", w.nats); err != nil {
		return err
	}
	if err := w.start("hub"); err != nil {
		return err
	}
	for _, m := range members {
		parts := strings.Split(m, ":")
		if len(parts) < 2 || len(parts) > 3 {
			return errArgs
		}
		if err := w.invite(parts[0], parts[0], parts[1], parts[2:]...); err != nil {
			return err
		}
		if err := errors.Join(w.start(parts[0]), w.profile(parts[0]), w.halt(parts[0])); err != nil {
			return err
		}
	}
	return w.halt("hub")
}

// ports are those made so far, by their members: making one takes a dozen
// processes, and many scripts want the same.
var ports = makers{of: map[string]*maker{}}

type makers struct {
	mu sync.Mutex
	of map[string]*maker
}

// maker makes one port once.
type maker struct {
	once  sync.Once
	world *world
	err   error
}

// made is a port of these members that no process has open.
func (p *makers) made(first *world, members []string) (*world, error) {
	p.mu.Lock()
	key := strings.Join(members, " ")
	m, ok := p.of[key]
	if !ok {
		m = new(maker)
		p.of[key] = m
	}
	p.mu.Unlock()
	m.once.Do(func() {
		if m.world, m.err = newWorld(); m.err == nil {
			m.world.ts = first.ts
			m.err = m.world.makePort(members)
		}
	})
	return m.world, m.err
}

// remove ends and removes all of them.
func (p *makers) remove() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, m := range p.of {
		if m.world != nil {
			errs = append(errs, m.world.end())
		}
	}
	return errors.Join(errs...)
}

// copyTo gives another script a port like this one at its own addresses.
func (w *world) copyTo(other *world) error {
	move := strings.NewReplacer(w.hub, other.hub, w.nats, other.nats)
	return filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(w.dir, path)
		if err != nil || rel == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		to := filepath.Join(other.dir, rel)
		if d.IsDir() {
			return os.Mkdir(to, info.Mode().Perm())
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if filepath.Ext(path) == ".toml" {
			data = []byte(move.Replace(string(data)))
		}
		return os.WriteFile(to, data, info.Mode().Perm())
	})
}

// invite lets the node NAME of a member join.
func (w *world) invite(name, member, role string, communities ...string) error {
	invite := []string{"hub", "invite", "--dir", w.nodeDir("hub"), "--member", member, "--name", member + "株式会社", "--role", role}
	for _, c := range communities {
		invite = append(invite, "--community", c)
	}
	token, err := w.must("", invite...)
	if err != nil {
		return err
	}
	_, err = w.must("", "node", "join", strings.TrimSpace(token), "--dir", w.nodeDir(name))
	return err
}

// join lets one more node join, in $P/NAME.
func (w *world) join(args ...string) error {
	if len(args) < 3 {
		return errArgs
	}
	return w.invite(args[0], args[1], args[2], args[3:]...)
}

// profile gives a node two contacts and a person that TLP:RED can name.
func (w *world) profile(args ...string) error {
	if len(args) != 1 {
		return errArgs
	}
	name := args[0]
	if _, err := w.must(w.nodeDir(name), "node", "profile", "--organisation", name+"株式会社", "--port", "津", "--terminal", name+"ふ頭",
		"--contact", "港 花子,059-000-0001,hanako@example.jp", "--contact", "津 太郎,059-000-0002,taro@example.jp"); err != nil {
		return err
	}
	_, err := w.must(w.nodeDir(name), "node", "person", "add", "ciso", "--name", "海野 守", "--title", "CISO")
	return err
}

func (w *world) start(args ...string) error {
	if len(args) != 1 {
		return errArgs
	}
	run := []string{"node", "run", "-c", filepath.Join(w.nodeDir(args[0]), "node.toml")}
	if args[0] == "hub" {
		run = []string{"hub", "run", "-c", filepath.Join(w.nodeDir("hub"), "hub.toml")}
	}
	p, err := w.run(args[0], "", run...)
	if err != nil {
		return err
	}
	_, err = p.until(regexp.MustCompile(`(?m)^ready `))
	return err
}

func (w *world) background(args ...string) error {
	if len(args) < 3 || args[1] != "minato" {
		return errArgs
	}
	_, err := w.run(args[0], w.ts.Getenv("MINATO_NODE"), args[2:]...)
	return err
}

func (w *world) halt(args ...string) error      { return w.finish(syscall.SIGTERM, args) }
func (w *world) interrupt(args ...string) error { return w.finish(os.Interrupt, args) }

func (w *world) finish(s os.Signal, args []string) error {
	if len(args) != 1 {
		return errArgs
	}
	p, err := w.take(args[0])
	if err != nil {
		return err
	}
	if err := p.signal(s); err != nil {
		return err
	}
	return p.verdict(nil)
}

// verdict is what to say of a process that was ended. Its stdout is that of
// the script's command.
func (p *process) verdict(want error) error {
	log := p.log()
	switch {
	case strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic:") || strings.Contains(log, "fatal error:"):
		return fmt.Errorf("%s: %s", p.name, log)
	case want == nil && p.err != nil:
		return fmt.Errorf("%s ended with %w\n%s", p.name, p.err, tail(log))
	}
	return nil
}

var errKilled = errors.New("killed")

func (w *world) crash(args ...string) error {
	if len(args) != 1 {
		return errArgs
	}
	p, err := w.take(args[0])
	if err != nil {
		return err
	}
	if err := p.signal(os.Kill); err != nil {
		return err
	}
	return p.verdict(errKilled)
}

// end ends what still runs, nodes before the hub, and removes the folder.
func (w *world) end() error {
	w.mu.Lock()
	rest := w.processes
	w.processes = map[string]*process{}
	w.mu.Unlock()
	var g errgroup.Group
	hub := rest["hub"]
	delete(rest, "hub")
	for _, p := range rest {
		g.Go(func() error { return p.terminate() })
	}
	err := g.Wait()
	if hub != nil {
		err = errors.Join(err, hub.terminate())
	}
	if w.flooding != nil {
		_ = w.flooded() // what it runs has no node any more and ends at once
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

// terminate ends a process at the end of a script, and makes sure of it.
func (p *process) terminate() error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		p.cmd.Process.Kill()
		return err
	}
	return p.verdict(nil)
}

func (w *world) at(args ...string) error {
	if len(args) != 1 {
		return errArgs
	}
	w.ts.Setenv("MINATO_NODE", w.nodeDir(args[0]))
	return nil
}

// repeat calls try until it is content, and returns its last word otherwise.
func repeat(try func() (done bool, said string, err error)) error {
	timeUp := time.After(patience)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		done, said, err := try()
		if done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-timeUp:
			return fmt.Errorf("not within %s; last:\n%s", patience, said)
		}
	}
}

func (w *world) connected(args ...string) error {
	for _, name := range args {
		err := repeat(func() (bool, string, error) {
			out, errs, _, err := w.call(w.nodeDir(name), "status", "--json")
			return strings.Contains(out, `"connected":true`), out + errs, err
		})
		if err != nil {
			return fmt.Errorf("%s is not connected: %w", name, err)
		}
	}
	return nil
}

func (w *world) eventually(args ...string) error {
	want, re := exitDone, regexp.MustCompile("")
	for len(args) > 2 && strings.HasPrefix(args[0], "-") {
		var err error
		switch args[0] {
		case "-code":
			want, err = strconv.Atoi(args[1])
		case "-stdout":
			re, err = regexp.Compile("(?m)" + args[1])
		default:
			err = errArgs
		}
		if err != nil {
			return err
		}
		args = args[2:]
	}
	if len(args) < 2 || args[0] != "minato" {
		return errArgs
	}
	return repeat(func() (bool, string, error) {
		out, errs, code, err := w.call(w.ts.Getenv("MINATO_NODE"), args[1:]...)
		if err != nil || code != want || !re.MatchString(out) {
			return false, fmt.Sprintf("exit code %d\n%s%s", code, out, errs), err
		}
		_, err = io.WriteString(w.ts.Stdout(), out)
		_, err2 := io.WriteString(w.ts.Stderr(), errs)
		return true, "", errors.Join(err, err2)
	})
}

func (w *world) exits(args ...string) error {
	if len(args) < 3 || args[1] != "minato" {
		return errArgs
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	out, errs, code, err := w.call(w.ts.Getenv("MINATO_NODE"), args[2:]...)
	if err != nil {
		return err
	}
	if code != want {
		return fmt.Errorf("exit code %d, want %d\n%s%s", code, want, out, errs)
	}
	_, err = io.WriteString(w.ts.Stdout(), out)
	_, err2 := io.WriteString(w.ts.Stderr(), errs)
	return errors.Join(err, err2)
}

func (w *world) waitStdout(args ...string) error {
	if len(args) != 2 {
		return errArgs
	}
	w.mu.Lock()
	p, ok := w.processes[args[0]]
	w.mu.Unlock()
	if !ok {
		return fmt.Errorf("%s is not running", args[0])
	}
	re, err := regexp.Compile("(?m)" + args[1])
	if err != nil {
		return err
	}
	out, err := p.until(re)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w.ts.Stdout(), out)
	return err
}

func (w *world) ended(args ...string) error {
	if len(args) != 2 {
		return errArgs
	}
	want, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	p, err := w.take(args[0])
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("%s does not end", p.name), p.cmd.Process.Kill())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != want {
		return fmt.Errorf("%s ended with exit code %d, want %d\n%s", p.name, code, want, p.log())
	}
	return nil
}

var series = regexp.MustCompile(`^(.+-)1\.\.(\d+)$`)

func (w *world) arrived(args ...string) error {
	list, anyOrder := []string{"inbox", "--json"}, false
	for ; len(args) > 0 && strings.HasPrefix(args[0], "-"); args = args[1:] {
		switch args[0] {
		case "-exercise":
			list = append(list, "--exercise")
		case "-any":
			anyOrder = true
		default:
			return errArgs
		}
	}
	var want []string
	for _, arg := range args {
		m := series.FindStringSubmatch(arg)
		if m == nil {
			want = append(want, arg)
			continue
		}
		last, err := strconv.Atoi(m[2])
		if err != nil {
			return err
		}
		for i := range last {
			want = append(want, m[1]+strconv.Itoa(i+1))
		}
	}
	if anyOrder {
		slices.Sort(want)
	}
	return repeat(func() (bool, string, error) {
		out, errs, code, err := w.call(w.ts.Getenv("MINATO_NODE"), list...)
		if err != nil || code != exitDone {
			return false, out + errs, err
		}
		var got []string
		for line := range strings.Lines(out) {
			var item struct{ Title string }
			if err := json.Unmarshal([]byte(line), &item); err != nil {
				return false, line, err
			}
			got = append(got, item.Title)
		}
		if anyOrder {
			slices.Sort(got)
		}
		// More than wanted can never become right.
		if len(got) > len(want) {
			return false, "", fmt.Errorf("the inbox holds %q, want %q", got, want)
		}
		return slices.Equal(got, want), fmt.Sprintf("the inbox holds %q, want %q", got, want), nil
	})
}

// flooding is a row of commands that run one after the other beside the script.
type flooding struct {
	mu      sync.Mutex
	done    int
	changed chan struct{}
	err     error
	total   int
}

func (w *world) flood(args ...string) error {
	if len(args) < 4 || args[2] != "minato" || w.flooding != nil {
		return errArgs
	}
	total, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	f := &flooding{changed: make(chan struct{}), total: total}
	w.flooding = f
	node, prefix, args := w.ts.Getenv("MINATO_NODE"), args[1], args[3:]
	var commands []*exec.Cmd
	for i := range total {
		commands = append(commands, w.minato(node, append(slices.Clone(args), "--title", fmt.Sprintf("%s-%d", prefix, i+1))...))
	}
	go func() {
		for _, cmd := range commands {
			out, err := cmd.CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == exitQueued {
				err = nil
			}
			f.mu.Lock()
			if f.done++; err != nil && f.err == nil {
				f.err = fmt.Errorf("%w: %s", err, out)
			}
			close(f.changed)
			f.changed = make(chan struct{})
			f.mu.Unlock()
		}
	}()
	return nil
}

func (w *world) flooded(args ...string) error {
	f := w.flooding
	if f == nil || len(args) > 1 {
		return errArgs
	}
	want := f.total
	if len(args) == 1 {
		var err error
		if want, err = strconv.Atoi(args[0]); err != nil {
			return err
		}
	}
	timeUp := time.After(patience)
	for {
		f.mu.Lock()
		done, changed, err := f.done, f.changed, f.err
		f.mu.Unlock()
		if err != nil {
			return err
		}
		if done >= want {
			return nil
		}
		select {
		case <-changed:
		case <-timeUp:
			return fmt.Errorf("%d of %d commands within %s", done, want, patience)
		}
	}
}

func (w *world) let(args ...string) error {
	if len(args) != 2 {
		return errArgs
	}
	re, err := regexp.Compile("(?m)" + args[1])
	if err != nil {
		return err
	}
	m := re.FindStringSubmatch(w.ts.ReadFile("stdout"))
	if len(m) < 2 {
		return fmt.Errorf("stdout has no %q", re)
	}
	w.ts.Setenv(args[0], m[1])
	return nil
}

func (w *world) edit(args ...string) error {
	if len(args) != 3 {
		return errArgs
	}
	path := w.ts.MkAbs(args[0])
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n := bytes.Count(text, []byte(args[1])); n != 1 {
		return fmt.Errorf("%s holds %q %d times\n%s", args[0], args[1], n, text)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, bytes.Replace(text, []byte(args[1]), []byte(args[2]), 1), info.Mode())
}

func (w *world) random(args ...string) (err error) {
	if len(args) != 2 {
		return errArgs
	}
	size, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	f, err := os.Create(w.ts.MkAbs(args[0]))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var seed [32]byte
	copy(seed[:], args[0])
	noise := rand.NewChaCha8(seed)
	if filepath.Ext(args[0]) == ".txt" {
		in, out := io.Pipe()
		go func() {
			_, err := io.Copy(hex.NewEncoder(out), noise)
			out.CloseWithError(err)
		}()
		defer in.Close()
		_, err = io.CopyN(f, in, size)
		return err
	}
	_, err = io.CopyN(f, noise, size)
	return err
}

func (w *world) keys(args ...string) error {
	out := w.ts.ReadFile("stdout")
	if out == "" {
		return errors.New("stdout is empty")
	}
	for line := range strings.Lines(out) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			return fmt.Errorf("%w: %s", err, line)
		}
		for _, key := range args {
			if _, ok := object[key]; !ok {
				return fmt.Errorf("no %q in %s", key, line)
			}
		}
	}
	return nil
}

func (w *world) screen(args ...string) error {
	if len(args) > 0 {
		return errArgs
	}
	lines := 0
	for s := bufio.NewScanner(strings.NewReader(w.ts.ReadFile("stdout"))); s.Scan(); lines++ {
		// Examples are as long as they are.
		if line := s.Text(); len([]rune(line)) > 120 && !strings.HasPrefix(line, "  minato ") {
			return fmt.Errorf("too wide: %s", line)
		}
	}
	if lines == 0 || lines > 40 {
		return fmt.Errorf("%d lines", lines)
	}
	return nil
}
