/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ed25519 keys: made, read, shown as text and as fingerprint. */
#include "net/ssh_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "net/net.h"

static const char key_type[] = "ssh-ed25519";

int evfs_ssh_key_text(ssh_key key, char *ret, size_t size,
		      struct evfs_err *err)
{
	char *b64 = NULL;
	int n;

	if (ssh_pki_export_pubkey_base64(key, &b64) != SSH_OK)
		return evfs_err_set(err, EVFS_ENOMEM, "public key: %s",
				    evfs_err_text(EVFS_ENOMEM));
	n = snprintf(ret, size, "%s %s",
		     ssh_key_type_to_char(ssh_key_type(key)), b64);
	ssh_string_free_char(b64);
	if (n < 0 || (size_t)n >= size)
		return evfs_err_set(err, EVFS_EINVAL,
				    "public key: longer than %zu bytes (evfs "
				    "uses ed25519 keys)", size - 1);
	return 0;
}

int evfs_ssh_key_hash(ssh_key key, char *ret, size_t size,
		      struct evfs_err *err)
{
	unsigned char *hash = NULL;
	char *text = NULL;
	size_t len = 0;
	int n = -1;

	if (ssh_get_publickey_hash(key, SSH_PUBLICKEY_HASH_SHA256, &hash,
				   &len) == 0)
		text = ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256,
						hash, len);
	if (text)
		n = snprintf(ret, size, "%s", text);
	ssh_string_free_char(text);
	ssh_clean_pubkey_hash(&hash);
	if (n < 0 || (size_t)n >= size)
		return evfs_err_set(err, EVFS_ENOMEM, "fingerprint: %s",
				    evfs_err_text(EVFS_ENOMEM));
	return 0;
}

int evfs_ssh_key_fingerprint(const char *public_key, char *ret, size_t size,
			     struct evfs_err *err)
{
	size_t len = sizeof(key_type) - 1;
	ssh_key key = NULL;
	int rc;

	if (strncmp(public_key, key_type, len) != 0 || public_key[len] != ' ' ||
	    ssh_pki_import_pubkey_base64(public_key + len + 1,
					 SSH_KEYTYPE_ED25519, &key) != SSH_OK)
		return evfs_err_set(err, EVFS_EINVAL,
				    "'%.60s': not a key of type %s", public_key,
				    key_type);
	rc = evfs_ssh_key_hash(key, ret, size, err);
	ssh_key_free(key);
	return rc;
}

int evfs_ssh_key_load(const char *path, ssh_key *ret, struct evfs_err *err)
{
	struct evfs_buf text = { 0 };
	ssh_key key = NULL;
	int rc = evfs_io_read_file(path, 64 << 10, &text, err);

	if (!rc && evfs_buf_put_u8(&text, 0))
		rc = evfs_err_set(err, EVFS_ENOMEM, "%s",
				  evfs_err_text(EVFS_ENOMEM));
	if (rc) {
		evfs_buf_fini(&text);
		return evfs_err_wrap(err, rc, "read key '%s'", path);
	}
	rc = ssh_pki_import_privkey_base64((const char *)text.data, NULL, NULL,
					   NULL, &key);
	explicit_bzero(text.data, text.len);
	evfs_buf_fini(&text);
	if (rc != SSH_OK)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "key '%s': not a private key in OpenSSH "
				    "format without passphrase (restore it "
				    "from a backup)", path);
	if (ssh_key_type(key) != SSH_KEYTYPE_ED25519) {
		rc = evfs_err_set(err, EVFS_EINVAL,
				  "key '%s': is of type %s, evfs uses %s", path,
				  ssh_key_type_to_char(ssh_key_type(key)),
				  key_type);
		ssh_key_free(key);
		return rc;
	}
	*ret = key;
	return 0;
}

/* A key is an identity: replacing one by accident would lose it. */
static int check_free(const char *path, struct evfs_err *err)
{
	struct stat st;

	if (stat(path, &st) == 0 && st.st_size > 0)
		return evfs_err_set(err, EVFS_EEXISTS,
				    "key '%s': exists already (move it away if "
				    "it is not needed)", path);
	return 0;
}

int evfs_net_make_key(const char *path, char *public_key, size_t public_size,
		      struct evfs_err *err)
{
	ssh_key key = NULL;
	char *text = NULL;
	int rc = check_free(path, err);

	if (rc)
		return rc;
	if (ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &key) != SSH_OK)
		return evfs_err_set(err, EVFS_EIO, "make key: libssh cannot "
				    "make ed25519 keys here");
	rc = evfs_ssh_key_text(key, public_key, public_size, err);
	if (!rc && ssh_pki_export_privkey_base64(key, NULL, NULL, NULL,
						 &text) != SSH_OK)
		rc = evfs_err_set(err, EVFS_ENOMEM, "make key: %s",
				  evfs_err_text(EVFS_ENOMEM));
	if (!rc)
		rc = evfs_io_replace(path, text, strlen(text), 0600, err);
	if (text) {
		explicit_bzero(text, strlen(text));
		ssh_string_free_char(text);
	}
	ssh_key_free(key);
	return rc;
}

int evfs_net_public_key(const char *path, char *public_key,
			size_t public_size, struct evfs_err *err)
{
	ssh_key key;
	int rc = evfs_ssh_key_load(path, &key, err);

	if (rc)
		return rc;
	rc = evfs_ssh_key_text(key, public_key, public_size, err);
	ssh_key_free(key);
	return rc;
}
