//! Conversion of [`Value`]s to and from PostgreSQL's types.
//!
//! The server determines the type of each parameter and column. A value is converted to it if
//! nothing is lost; otherwise the error names the cast that helps. A boolean is the integer 0 or 1,
//! as in SQLite.

use crate::connection::Value;
use std::error::Error;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};

type Refusal = Box<dyn Error + Sync + Send>;

fn is_text(ty: &Type) -> bool {
    <&str as FromSql<'_>>::accepts(ty)
        || matches!(*ty, Type::JSON | Type::XML)
        || matches!(ty.kind(), Kind::Enum(_))
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Refusal> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(value) => match *ty {
                Type::INT8 => value.to_sql(ty, out),
                Type::INT4 => i32::try_from(*value)?.to_sql(ty, out),
                Type::INT2 => i16::try_from(*value)?.to_sql(ty, out),
                Type::OID => u32::try_from(*value)?.to_sql(ty, out),
                Type::BOOL => (*value != 0).to_sql(ty, out),
                Type::FLOAT8 => (*value as f64).to_sql(ty, out),
                Type::FLOAT4 => (*value as f32).to_sql(ty, out),
                _ => Err(no_parameter("an integer", ty, "bigint")),
            },
            Self::Real(value) => match *ty {
                Type::FLOAT8 => value.to_sql(ty, out),
                Type::FLOAT4 => (*value as f32).to_sql(ty, out),
                _ => Err(no_parameter("a number", ty, "double precision")),
            },
            Self::Text(text) if is_text(ty) => text.as_str().to_sql(&Type::TEXT, out),
            Self::Text(_) => Err(no_parameter("a text", ty, "text")),
            Self::Bytes(bytes) if *ty == Type::BYTEA => bytes.as_slice().to_sql(ty, out),
            Self::Bytes(_) => Err(no_parameter("bytes", ty, "bytea")),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn no_parameter(what: &str, ty: &Type, cast: &str) -> Refusal {
    format!("{what} cannot be passed as {ty}; write the parameter as $n::{cast}").into()
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Refusal> {
        Ok(match *ty {
            Type::INT8 => Self::Integer(i64::from_sql(ty, raw)?),
            Type::INT4 => Self::Integer(i32::from_sql(ty, raw)?.into()),
            Type::INT2 => Self::Integer(i16::from_sql(ty, raw)?.into()),
            Type::OID => Self::Integer(u32::from_sql(ty, raw)?.into()),
            Type::BOOL => Self::Integer(bool::from_sql(ty, raw)?.into()),
            Type::FLOAT8 => Self::Real(f64::from_sql(ty, raw)?),
            Type::FLOAT4 => Self::Real(f32::from_sql(ty, raw)?.into()),
            Type::BYTEA => Self::Bytes(raw.to_vec()),
            Type::VOID => Self::Null,
            _ if is_text(ty) => Self::Text(<&str>::from_sql(&Type::TEXT, raw)?.to_owned()),
            _ => {
                return Err(format!(
                    "a value of type {ty} cannot be held; cast it, to text, bigint, double \
                     precision or bytea"
                )
                .into());
            }
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Refusal> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn there_and_back(value: &Value, ty: &Type) -> Value {
        let mut bytes = BytesMut::new();
        match value.to_sql(ty, &mut bytes).unwrap() {
            IsNull::Yes => Value::from_sql_null(ty).unwrap(),
            IsNull::No => Value::from_sql(ty, &bytes).unwrap(),
        }
    }

    #[test]
    fn a_value_survives_the_round_trip() {
        for ty in [Type::INT2, Type::INT4, Type::INT8] {
            assert_eq!(there_and_back(&Value::Integer(-7), &ty), Value::Integer(-7), "{ty}");
        }
        for ty in [Type::TEXT, Type::VARCHAR, Type::NAME, Type::JSON] {
            assert_eq!(there_and_back(&Value::from("7"), &ty), Value::from("7"), "{ty}");
        }
        for ty in [Type::FLOAT4, Type::FLOAT8] {
            assert_eq!(there_and_back(&Value::Real(0.5), &ty), Value::Real(0.5), "{ty}");
        }
        let bytes = Value::Bytes(vec![0, 255]);
        assert_eq!(there_and_back(&bytes, &Type::BYTEA), bytes);
        assert_eq!(there_and_back(&Value::Integer(5), &Type::BOOL), Value::Integer(1));
        assert_eq!(there_and_back(&Value::Null, &Type::NUMERIC), Value::Null);
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused_with_the_cast_that_helps() {
        let mut bytes = BytesMut::new();
        let mut refused = |value: Value, ty| match value.to_sql(&ty, &mut bytes) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert!(refused(Value::Integer(1 << 40), Type::INT4).contains("out of range"));
        assert!(refused(Value::Integer(1), Type::NUMERIC).contains("$n::bigint"));
        assert!(refused(Value::from("now"), Type::TIMESTAMPTZ).contains("$n::text"));
        assert!(Value::from_sql(&Type::NUMERIC, &[]).unwrap_err().to_string().contains("numeric"));
    }

    #[test]
    fn malformed_bytes_of_a_server_are_an_error() {
        for ty in [Type::INT8, Type::INT4, Type::BOOL, Type::FLOAT8] {
            assert!(Value::from_sql(&ty, &[1, 2, 3]).is_err(), "{ty}");
        }
        assert!(Value::from_sql(&Type::TEXT, &[0xff]).is_err());
    }
}
