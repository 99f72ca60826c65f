//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"minato.example/node"
	pb "minato.example/proto/minato/v1"
)

// reds publishes N reports under TLP:RED for one named person through the
// node's socket, eight at a time, each with the text in title, summary and
// technical part, and waits until the hub has accepted them.
func (w *world) reds(args ...string) error {
	if len(args) != 3 {
		return errArgs
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	member, person, _ := strings.Cut(args[1], "/")
	client, err := node.Dial(w.ts.Getenv("MINATO_NODE"))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := range n {
		g.Go(func() error {
			mark := fmt.Sprintf("%s-%d", args[2], i+1)
			item, err := client.Publish(ctx, &pb.Report{
				Lane: pb.Lane_LANE_LIVE, Tlp: pb.TlpLabel_TLP_LABEL_RED, Title: mark, Summary: "概要 " + mark,
				AttackTechnical: &pb.AttackTechnical{Text: "技術 " + mark}, Recipients: []*pb.Recipient{{Member: member, Person: person}},
			}, time.Minute)
			if err == nil && item.GetState() != pb.OutboxState_OUTBOX_STATE_ACCEPTED {
				err = fmt.Errorf("report %d: %v", i+1, item)
			}
			return err
		})
	}
	return g.Wait()
}

// memory says whether the memory of a process holds a text. The whole of its
// readable memory is searched, while it runs.
func (w *world) memory(args ...string) error {
	if len(args) != 3 {
		return errArgs
	}
	w.mu.Lock()
	p := w.processes[args[0]]
	w.mu.Unlock()
	if p == nil {
		return fmt.Errorf("%s is not running", args[0])
	}
	found, searched, err := inMemory(p.cmd.Process.Pid, []byte(args[2]))
	if err != nil {
		return err
	}
	if searched < 1<<20 {
		return fmt.Errorf("only %d bytes of %s could be read", searched, args[0])
	}
	return verdict(args[1], found, args[0]+"'s memory", args[2])
}

// inMemory counts a text in the readable memory of a process (proc(5)).
func inMemory(pid int, text []byte) (found, searched int, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return 0, 0, err
	}
	defer mem.Close()
	for lines := bufio.NewScanner(bytes.NewReader(maps)); lines.Scan(); {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil || mode[0] != 'r' || strings.Contains(lines.Text(), "[v") {
			continue
		}
		buf := make([]byte, 0, 1<<20)
		for at := from; at < to; {
			kept := min(len(buf), len(text)-1)
			buf = append(buf[:0], buf[len(buf)-kept:]...)
			chunk := buf[kept : kept+int(min(to-at, int64(cap(buf)-kept)))]
			n, err := mem.ReadAt(chunk, at)
			if n == 0 || err != nil && n == 0 {
				break // a page that is reserved and not there
			}
			buf = buf[:kept+n]
			found += bytes.Count(buf, text)
			searched += n
			at += int64(n)
		}
	}
	return found, searched, nil
}

// files says whether any file below a folder holds a text.
func (w *world) files(args ...string) error {
	if len(args) != 3 {
		return errArgs
	}
	found := 0
	err := filepath.WalkDir(w.nodeDir(args[0]), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !entry.Type().IsRegular() {
			return nil
		}
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		found += bytes.Count(data, []byte(args[2]))
		return err
	})
	if err != nil {
		return err
	}
	return verdict(args[1], found, "the files of "+args[0], args[2])
}

// logged says whether a process beside the script has printed a text.
func (w *world) logged(args ...string) error {
	if len(args) != 3 {
		return errArgs
	}
	w.mu.Lock()
	p := w.processes[args[0]]
	w.mu.Unlock()
	if p == nil {
		return fmt.Errorf("%s is not running", args[0])
	}
	p.mu.Lock()
	all := p.out.String() + p.errs.String()
	p.mu.Unlock()
	return verdict(args[1], strings.Count(all, args[2]), "the output of "+args[0], args[2])
}

func verdict(want string, found int, where, text string) error {
	switch {
	case want == "has" && found == 0:
		return fmt.Errorf("%s lacks %q", where, text)
	case want == "lacks" && found > 0:
		return fmt.Errorf("%s has %q, %d times", where, text, found)
	case want != "has" && want != "lacks":
		return errArgs
	}
	return nil
}
