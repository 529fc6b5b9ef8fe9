// Command certificates makes the keys of one test cluster: an authority, what the servers show, and a kubeconfig for each
// client. They live as long as the cluster, so nothing secret is kept in the repository.
//
//	certificates FOLDER SERVER-URL
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const (
	// A cluster lives for minutes or hours.
	lifetime = 30 * 24 * time.Hour
	node     = "penstock"
)

// clients are who Kubernetes' own roles know them as.
var clients = []struct {
	file, user string
	groups     []string
}{
	{"admin", "admin", []string{"system:masters"}},
	{"kube-controller-manager", "system:kube-controller-manager", nil},
	{"kube-scheduler", "system:kube-scheduler", nil},
	{"kube-proxy", "system:kube-proxy", nil},
	{"kubelet", "system:node:" + node, []string{"system:nodes"}},
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: certificates FOLDER SERVER-URL")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(folder, server string) error {
	address, err := url.Parse(server)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	authority, err := newAuthority()
	if err != nil {
		return err
	}
	if err := write(folder, "ca.crt", encode("CERTIFICATE", authority.certificate.Raw)); err != nil {
		return err
	}
	ip := net.ParseIP(address.Hostname())
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	servers := map[string]*x509.Certificate{
		"kube-apiserver": serving("kube-apiserver", []net.IP{ip, net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)}, names),
		"kubelet-server": serving("system:node:"+node, []net.IP{ip}, []string{node}),
		// How the API server speaks to the kubelet: logs, exec, port-forward.
		"kubelet-client": authenticating("kube-apiserver-kubelet-client", []string{"system:masters"}),
	}
	for name, template := range servers {
		certificate, key, err := authority.issue(template)
		if err != nil {
			return err
		}
		if err := write(folder, name+".crt", certificate); err != nil {
			return err
		}
		if err := write(folder, name+".key", key); err != nil {
			return err
		}
	}
	for _, client := range clients {
		certificate, key, err := authority.issue(authenticating(client.user, client.groups))
		if err != nil {
			return err
		}
		text := kubeconfig(server, encode("CERTIFICATE", authority.certificate.Raw), certificate, key)
		if err := write(folder, client.file+".kubeconfig", text); err != nil {
			return err
		}
	}
	return serviceAccounts(folder)
}

// serviceAccounts makes the key that signs the tokens of pods.
func serviceAccounts(folder string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := encodeKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := write(folder, "service-accounts.pub", encode("PUBLIC KEY", public)); err != nil {
		return err
	}
	return write(folder, "service-accounts.key", private)
}

type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := template("penstock-test-cluster", nil)
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &authority{certificate, key}, err
}

// issue answers a certificate and its key, both as PEM.
func (a *authority) issue(template *x509.Certificate) (certificate, key []byte, err error) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, signer.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	key, err = encodeKey(signer)
	return encode("CERTIFICATE", der), key, err
}

func serving(name string, addresses []net.IP, names []string) *x509.Certificate {
	certificate := template(name, []string{"system:nodes"})
	certificate.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	certificate.IPAddresses = addresses
	certificate.DNSNames = names
	return certificate
}

func authenticating(name string, groups []string) *x509.Certificate {
	certificate := template(name, groups)
	certificate.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return certificate
}

func template(name string, groups []string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: groups},
		// Clocks in namespaces are the machine's, but a certificate from this very second is refused by some.
		NotBefore: time.Now().Add(-time.Hour),
		NotAfter:  time.Now().Add(lifetime),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
}

func kubeconfig(server string, authority, certificate, key []byte) []byte {
	base := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: penstock
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: penstock
  user:
    client-certificate-data: %s
    client-key-data: %s
contexts:
- name: penstock
  context: {cluster: penstock, user: penstock}
current-context: penstock
`, server, base(authority), base(certificate), base(key))
}

func encodeKey(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return encode("PRIVATE KEY", der), err
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func write(folder, name string, content []byte) error {
	return os.WriteFile(filepath.Join(folder, name), content, 0o600)
}
