package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	pb "minato.example/proto/minato/v1"
)

// partTime bounds the reading of one part from the node.
const partTime = 5 * time.Minute

// saveParts writes the parts of a report into a folder, under names that cannot
// leave it. It overwrites nothing, and when it fails it leaves nothing behind.
func (a *app) saveParts(ctx context.Context, n pb.NodeServiceClient, r *pb.Report, dir string) (err error) {
	parts := partsOf(r)
	if len(parts) == 0 {
		a.talk(Text{"この報告に添付はありません", "this report has no parts"})
		return nil
	}
	names := fileNames(parts)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return unwritable(dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return unwritable(dir, err)
	}
	defer root.Close()
	for _, name := range names {
		if _, err := root.Lstat(name); err == nil {
			return alreadyThere(dir, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return unwritable(dir, err)
		}
	}
	var written []string
	defer func() {
		if err != nil {
			for _, name := range written {
				_ = root.Remove(name)
			}
		}
	}()
	for i, part := range parts {
		f, err := root.OpenFile(names[i], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return alreadyThere(dir, names[i])
		} else if err != nil {
			return unwritable(dir, err)
		}
		written = append(written, names[i])
		if err := fetchPart(ctx, n, r.GetReportId(), part, f); err != nil {
			f.Close()
			return err
		}
		if err := f.Close(); err != nil {
			return unwritable(dir, err)
		}
	}
	for _, name := range names {
		a.talk(textf("書き出しました: %s", "wrote %s", plain(filepath.Join(dir, name))))
	}
	return nil
}

// fileNames gives every part a safe name of its own.
func fileNames(parts []*pb.Part) []string {
	taken := map[string]bool{}
	var names []string
	for i, p := range parts {
		name := fileName(p.GetName())
		if name == "" {
			name = fmt.Sprintf("part-%d", i+1)
		}
		ext := filepath.Ext(name)
		stem := strings.TrimSuffix(name, ext)
		// Some file systems do not tell capitals apart.
		for n := 2; taken[strings.ToLower(name)]; n++ {
			name = fmt.Sprintf("%s-%d%s", stem, n, ext)
		}
		taken[strings.ToLower(name)] = true
		names = append(names, name)
	}
	return names
}

// fetchPart reads one part from the node and checks it against the report's
// signed digest.
func fetchPart(ctx context.Context, n pb.NodeServiceClient, report string, part *pb.Part, to io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, partTime)
	defer cancel()
	stream, err := n.GetPart(ctx, &pb.GetPartRequest{Report: report, Digest: part.GetDigest()})
	if err != nil {
		return err
	}
	digest := sha256.New()
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		digest.Write(piece.GetData())
		if _, err := to.Write(piece.GetData()); err != nil {
			return fmt.Errorf("write part: %w", err)
		}
	}
	if !bytes.Equal(digest.Sum(nil), part.GetDigest()) {
		return &failure{code: exitFailed,
			what: textf("添付 %s の内容が署名された値と違います", "part %s does not match its signed digest", plain(part.GetName())),
			next: Text{"書き出しを取り消しました。ノードのディスクを確かめてください", "nothing was kept; check the node's disk"}}
	}
	return nil
}

func alreadyThere(dir, name string) error {
	return usage(
		textf("%s は既にあります", "%s is already there", plain(filepath.Join(dir, name))),
		Text{"--parts に別のフォルダーを指定してください", "give another folder with --parts"})
}

func unwritable(dir string, err error) error {
	return &failure{code: exitUsage, err: err,
		what: textf("--parts %s に書けません: %s", "cannot write to --parts %s: %s", plain(dir), plain(err.Error())),
		next: Text{"書けるフォルダーを指定してください", "name a folder that you can write to"}}
}
