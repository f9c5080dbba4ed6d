/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Settings: their texts and what they mean. The rows are in db_config.c. */
#include "meta/config.h"

#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "meta/config_priv.h"
#include "meta/quorum.h"
#include "meta/store.h"

struct config_row {
	const char *name;          /* as users write it */
	enum evfs_config_kind kind; /* how its texts read */
	const char *initial;       /* default */
	int64_t low, high;         /* allowed; SHARE: of bytes */
	const char *meaning;       /* one line */
};

static const struct config_row config_rows[EVFS_CONFIG_KEYS] = {
#define X(key, kind, initial, low, high, text) \
	{ #key, EVFS_CONFIG_##kind, initial, low, high, text },
	EVFS_CONFIG_TABLE(X)
#undef X
};

struct config_unit {
	const char *text; /* after the number */
	double factor;    /* of it, in the unit of the kind */
};

static const struct config_unit config_durations[] = {
	{ "ms", 1 },	      { "s", 1000 },	   { "m", 60000 },
	{ "min", 60000 },     { "h", 3600000 },	   { "d", 86400000 },
	{ "w", 604800000.0 }, { NULL, 0 }
};

static const struct config_unit config_bytes[] = {
	{ "", 1 },
	{ "B", 1 },
	{ "K", 1024 },
	{ "KiB", 1024 },
	{ "M", 1048576 },
	{ "MiB", 1048576 },
	{ "G", 1073741824 },
	{ "GiB", 1073741824 },
	{ "T", 1099511627776.0 },
	{ "TiB", 1099511627776.0 },
	{ "kB", 1000 },
	{ "KB", 1000 },
	{ "MB", 1e6 },
	{ "GB", 1e9 },
	{ "TB", 1e12 },
	{ NULL, 0 }
};

static const struct config_unit config_percent[] = { { "%", 1 }, { NULL, 0 } };
static const struct config_unit config_fractions[] = { { "", 1e6 },
						       { "%", 1e4 },
						       { NULL, 0 } };
static const struct config_unit config_counts[] = { { "", 1 }, { NULL, 0 } };
static const struct config_unit config_days[] = { { "", 1 },
						  { "d", 1 },
						  { NULL, 0 } };

static const char *const config_looks[] = {
	[EVFS_CONFIG_COUNT] = "a number, like 3",
	[EVFS_CONFIG_DURATION] = "a time, like 500ms, 30s, 5m, 3h, 1d",
	[EVFS_CONFIG_BYTES] = "a size, like 4096, 100MiB, 1GiB",
	[EVFS_CONFIG_RATE] = "a rate, like 50000/s, 10MiB/s, 0",
	[EVFS_CONFIG_FRACTION] = "a share, like 0.1, 10%",
	[EVFS_CONFIG_SHARE] = "a share of the disk or a size, like 10%, 5GiB",
	[EVFS_CONFIG_DAYS] = "days, like 30",
};

/* A plain decimal number, "12" or "1.5", and a unit that stands in the table,
 * as a whole number. False where it is none, or too large. */
static bool config_number(const char *text, const char *end,
			  const struct config_unit *units, int64_t *ret)
{
	size_t digits = strspn(text, "0123456789");
	size_t len = (size_t)(end - text);
	size_t number = digits;
	long double value = 0;
	long double part = 0;

	if (text[digits] == '.')
		number += 1 + strspn(text + digits + 1, "0123456789");
	if (digits == 0 || digits > 18 || number == digits + 1 || number > len)
		return false;
	for (size_t i = 0; i < digits; i++)
		value = value * 10 + (text[i] - '0');
	for (size_t i = number; i > digits + 1; i--)
		part = (part + (text[i - 1] - '0')) / 10;
	value += part;
	for (; units->text != NULL; units++) {
		if (strlen(units->text) == len - number &&
		    memcmp(units->text, text + number, len - number) == 0)
			break;
	}
	if (units->text == NULL)
		return false;
	value *= (long double)units->factor;
	if (value >= 9.2e18L)
		return false;
	*ret = (int64_t)(value + 0.5L);
	return true;
}

static bool config_read(enum evfs_config_kind kind, const char *text,
			int64_t *ret)
{
	const char *end = text + strlen(text);

	switch (kind) {
	case EVFS_CONFIG_DURATION:
		return config_number(text, end, config_durations, ret);
	case EVFS_CONFIG_RATE:
		if (end - text > 2 && strcmp(end - 2, "/s") == 0)
			end -= 2;
		return config_number(text, end, config_bytes, ret);
	case EVFS_CONFIG_BYTES:
		return config_number(text, end, config_bytes, ret);
	case EVFS_CONFIG_FRACTION:
		return config_number(text, end, config_fractions, ret);
	case EVFS_CONFIG_SHARE:
		if (config_number(text, end, config_percent, ret)) {
			*ret = -*ret;
			return *ret >= -100 && strchr(text, '.') == NULL;
		}
		return config_number(text, end, config_bytes, ret);
	case EVFS_CONFIG_DAYS:
		return config_number(text, end, config_days, ret) &&
		       strchr(text, '.') == NULL;
	case EVFS_CONFIG_COUNT:
	default:
		return config_number(text, end, config_counts, ret) &&
		       strchr(text, '.') == NULL;
	}
}

int evfs_config_parse_duration(const char *text, int64_t *ret_ms,
			       struct evfs_err *err)
{
	int64_t ms;

	if (!config_read(EVFS_CONFIG_DURATION, text, &ms))
		return evfs_err_set(err, EVFS_EINVAL, "'%s' is not %s", text,
				    config_looks[EVFS_CONFIG_DURATION]);
	*ret_ms = ms;
	return 0;
}

/* ---- values ---- */

int evfs_config_parse(enum evfs_config_key key, const char *text, int64_t *ret,
		      struct evfs_err *err)
{
	const struct config_row *row = &config_rows[key];
	int64_t value;

	if (!config_read(row->kind, text, &value))
		return evfs_err_set(err, EVFS_EINVAL, "%s: '%s' is not %s",
				    row->name, text, config_looks[row->kind]);
	if (row->kind == EVFS_CONFIG_SHARE && value < 0) {
		*ret = value;
		return 0;
	}
	if (value < row->low || value > row->high) {
		const char *unit = row->kind == EVFS_CONFIG_DURATION ? " ms" :
				   row->kind == EVFS_CONFIG_FRACTION ?
								     " ppm" :
								     "";

		return evfs_err_set(err, EVFS_EINVAL,
				    "%s: '%s' is %lld%s, not within %lld to "
				    "%lld%s",
				    row->name, text, (long long)value, unit,
				    (long long)row->low, (long long)row->high,
				    unit);
	}
	*ret = value;
	return 0;
}

const char *evfs_config_name(enum evfs_config_key key)
{
	return config_rows[key].name;
}

const char *evfs_config_meaning(enum evfs_config_key key)
{
	return config_rows[key].meaning;
}

const char *evfs_config_initial(enum evfs_config_key key)
{
	return config_rows[key].initial;
}

int evfs_config_find(const char *name, enum evfs_config_key *ret,
		     struct evfs_err *err)
{
	struct evfs_buf names = { 0 };
	int rc = 0;
	int key;

	for (key = 0; key < EVFS_CONFIG_KEYS; key++) {
		if (strcmp(config_rows[key].name, name) == 0) {
			*ret = (enum evfs_config_key)key;
			return 0;
		}
	}
	/* A message holds 255 bytes: the names nearest to what was written
	 * come first, so the cut takes the others. */
	for (int near = 1; near >= 0 && rc == 0; near--) {
		for (key = 0; key < EVFS_CONFIG_KEYS && rc == 0; key++) {
			bool match = name[0] != '\0' &&
				     config_rows[key].name[0] == name[0];

			if (match == (near == 1))
				rc = evfs_buf_printf(&names, "%s%s",
						     names.len == 0 ? "" : " ",
						     config_rows[key].name);
		}
	}
	if (rc == 0)
		rc = evfs_buf_put_u8(&names, 0);
	evfs_err_set(err, EVFS_EINVAL, "no setting '%.32s', but: %s",
		     name, rc == 0 ? (const char *)names.data : "?");
	evfs_buf_fini(&names);
	return EVFS_EINVAL;
}

int64_t evfs_config_get(struct evfs_meta *meta, enum evfs_config_key key)
{
	return meta->store->config->values[key];
}

int evfs_config_get_text(struct evfs_meta *meta, const char *name,
			 const char **ret, struct evfs_err *err)
{
	enum evfs_config_key key;
	int rc = evfs_config_find(name, &key, err);

	if (rc == 0)
		*ret = meta->store->config->texts[key];
	return rc;
}

int evfs_config_set_text(struct evfs_meta *meta, const char *name,
			 const char *value, struct evfs_err *err)
{
	enum evfs_config_key key;
	int64_t number;
	char *text;
	int rc = evfs_config_find(name, &key, err);

	if (rc == 0)
		rc = evfs_config_parse(key, value, &number, err);
	if (rc != 0)
		return rc;
	text = evfs_strdup(value);
	if (text == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "config: out of memory");
	rc = evfs_config_write(meta, key, value, err);
	if (rc != 0) {
		evfs_free(text);
		return rc;
	}
	evfs_free(meta->store->config->texts[key]);
	meta->store->config->texts[key] = text;
	meta->store->config->values[key] = number;
	evfs_quorum_settings_changed(meta);
	return 0;
}
