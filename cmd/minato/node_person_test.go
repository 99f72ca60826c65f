package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

func TestAPersonsKeyIsKeptByTheNodeOrByThePersonAlone(t *testing.T) {
	n := startNode(t)
	n.recorded = true
	code, out, errs := n.minato("node", "person", "add", "sato", "--name", "佐藤")
	require.Equal(t, exitDone, code, errs)
	kept, err := seal.NewPrivateKey(n.keyed.GetSuite(), n.keyed.GetPrivateKey())
	require.NoError(t, err)
	require.Equal(t, n.keyed.GetPublicKey(), kept.Public().Bytes())
	require.Contains(t, out, "sato の鍵の指紋: "+kept.Public().Fingerprint())

	file := filepath.Join(t.TempDir(), "sato.key")
	add := []string{"node", "person", "add", "sato", "--name", "佐藤", "--key-file", file}
	code, out, errs = n.minato(add...)
	require.Equal(t, exitDone, code, errs)
	require.Empty(t, n.keyed.GetPrivateKey(), "the node never sees it")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	own, err := seal.ParsePrivateKey(text)
	require.NoError(t, err)
	require.Equal(t, n.keyed.GetPublicKey(), own.Public().Bytes())
	require.Contains(t, out, own.Public().Fingerprint())

	n.keyed = nil
	code, _, errs = n.minato(add...)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, file, "no key is overwritten")
	require.Nil(t, n.keyed)
	again, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, text, again)
}

func TestAKeyThatThePersonHasStays(t *testing.T) {
	n := startNode(t)
	n.recorded = true
	key, err := seal.GenerateKey(seal.DHKEMP256)
	require.NoError(t, err)
	n.members = []*pb.Member{{Id: "tcb", Keys: []*pb.SignedKey{
		{Entry: &pb.KeyEntry{Member: "tcb", Node: 1, Suite: seal.DHKEMP256}},
		{Entry: &pb.KeyEntry{Member: "tcb", Person: "sato", Node: 1, Suite: seal.DHKEMP256, PublicKey: key.Public().Bytes()}},
	}}}
	code, out, errs := n.minato("node", "person", "add", "sato", "--name", "佐藤", "--title", "部長")
	require.Equal(t, exitDone, code, errs)
	require.Nil(t, n.keyed)
	require.Contains(t, out, key.Public().Fingerprint())
	require.Equal(t, "部長", n.profile.GetPersons()[0].GetTitle())

	code, _, _ = n.minato("node", "person", "add", "sato", "--name", "佐藤", "--new-key")
	require.Equal(t, exitDone, code)
	require.Equal(t, seal.DHKEMP256, n.keyed.GetSuite(), "the suite of the node")

	_, out, _ = n.minato("members", "--keys")
	require.Contains(t, out, "tcb/sato DHKEM-P256 - "+" "+key.Public().Fingerprint()+"\n")
	require.Contains(t, out, "tcb(ノード1)")
	_, out, _ = n.minato("members", "--keys", "--json")
	require.Contains(t, out, `"person":"sato"`)
}

func TestAKeyFileIsNotLeftBehindWhenTheKeyIsRefused(t *testing.T) {
	n := startNode(t)
	n.recorded = true
	n.keyFailure = status.Error(codes.InvalidArgument, "no")
	file := filepath.Join(t.TempDir(), "sato.key")
	code, _, _ := n.minato("node", "person", "add", "sato", "--name", "佐藤", "--key-file", file)
	require.Equal(t, exitUsage, code)
	require.NoFileExists(t, file)
}

func TestAPersonIsQueuedWithItsKeyWhileTheHubIsAway(t *testing.T) {
	n := startNode(t)
	code, out, _ := n.minato("node", "person", "add", "sato", "--name", "佐藤")
	require.Equal(t, exitQueued, code)
	require.NotNil(t, n.keyed)
	require.Contains(t, out, "指紋")
}

func TestAKeyIsConfirmedByName(t *testing.T) {
	n := startNode(t)
	code, out, errs := n.minato("members", "--confirm-key", "mlit/ciso")
	require.Equal(t, exitDone, code, errs)
	require.Equal(t, "mlit", n.confirmed.GetMember())
	require.Equal(t, "ciso", n.confirmed.GetPerson())
	require.Contains(t, out, "11111 22222")
	code, _, errs = n.minato("members", "--confirm-key", "MLIT")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "--confirm-key")
}
